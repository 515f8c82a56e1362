"""The HTTP API of a node: a face for programs and for the web page.

`operation.OPERATIONS` of each module are tables of what may be asked; `app` puts them together; `server` listens.
"""
