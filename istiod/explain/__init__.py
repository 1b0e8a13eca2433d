"""What an Envoy would do with a call, read off the messages that it is sent, and which object caused each step. Pure.

Nothing here knows the YAML: causes are the origins in the messages' metadata. What cannot be decided (a filter that is
not ours, a script) is said as a doubt, never guessed.
"""
