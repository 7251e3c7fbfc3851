"""Which losses make a small model forget TOFU's authors, and does it stay forgotten?"""
