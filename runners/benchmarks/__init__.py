"""The 13 tasks: their questions, prompts, stop rules and post-processing.

Nothing here knows a model. Everything is a pure function of rows and text, because one wrong
character in a prompt, a stop rule or a cut is worth zero points.
"""
