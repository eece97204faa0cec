"""The experiments and checks that the paper names (arXiv 2408.15450), one command and one page section each.

An experiment is a module with TITLE, `measure` (options → a JSON document), `section` (that document →
Markdown) and `figure` (that document → PNG bytes).
"""

EXPERIMENTS = ("prevention", "quality", "triggers", "scalability", "stability")
