"""Who may do what: keys, whom they belong to, and which messages each role may send.

Only programs that use keys import this package, because it needs PyNaCl.
"""
