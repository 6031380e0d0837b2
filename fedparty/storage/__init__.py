"""Tables: what a site lets tasks compute on.

Owns reading a site's files as columns, and noticing that a file changed. Does not own which names are bound to which
files (`fedparty.flow`), nor who may read them (the site's policy).
"""
