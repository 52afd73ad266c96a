"""Who is this client: the decision about a CONNECT, and the ways of making it.

opening           what the configuration asks for
chain             several authenticators in order
development, password_file, user_table, json_web_token    authenticators
scram             an enhanced authenticator
penalties         slow answers for those who guess
"""
