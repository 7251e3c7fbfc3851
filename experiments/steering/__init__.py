"""How far does steering by proxy go?"""
