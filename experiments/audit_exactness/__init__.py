"""Are the p-values of honest deletions as good as the audit says?"""
