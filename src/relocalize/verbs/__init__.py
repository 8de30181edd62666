"""The front door: one function per verb, each with the words and defaults of its command.

`import relocalize` offers them all. Each takes a Place or its folder, and returns a frozen result
with `to_json`.
"""
