"""The mesh page: what the control plane knows, for people with a browser, under /debug/page/ (docs/page.md).

Views are values made from what the running parts say (pure); templates write them; server.py answers requests.
"""
