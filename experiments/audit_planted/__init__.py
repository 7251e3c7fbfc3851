"""Do audits find deletions that were not done?"""
