"""Policies behind a socket: clients of the servers that other projects start, one file a protocol.

`adapter` says as data what a server reads and answers, `translation` carries observations and actions over, `codec` and
`websocket` move bytes, and `client` is the policy that a run sees.
"""
