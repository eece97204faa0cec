"""The experiments and checks that the paper names (arXiv 2408.15450), each one command and one section of the report.

An experiment is a module with TITLE, `measure` (options → a JSON document), `section` (that document → Markdown lines) and
`figure` (that document → PNG bytes).
"""

EXPERIMENTS = ("prevention", "quality", "triggers", "scalability", "stability")
