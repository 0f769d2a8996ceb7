"""Code that travels to hosts which lack it.

A worker of a cluster asks its agent for each top-level module that it imports (`finder`), the agent asks the program
and keeps the answer for all workers of its host (`shelf`), the program finds the code and chooses what of it is sent
(`library`, by the `rules`). On one host none of this is loaded.
"""
