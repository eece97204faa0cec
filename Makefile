# make demo: see it work · make test · make check · make format · make docs
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DEV := $(VENV)/.ready-dev
READY_DOCS := $(VENV)/.ready-docs
DEMO := out/demo

export HF_HUB_OFFLINE ?= 1

.PHONY: demo test check format docs
.DEFAULT_GOAL := demo

# set up once, and again only when what is to be installed has changed; the demo needs less than the tests do
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "steerclear needs Python 3.11 or newer, not %d.%d: make PYTHON=python3.12" % sys.version_info[:2] or 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(READY_DEV): $(READY) lab/pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]' -e './lab[train]'
	@touch $@

# the laboratory as well, whose commands are in the reference
$(READY_DOCS): $(READY) lab/pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]' -e ./lab
	@touch $@

# every third prompt that gives a protected picture; exit code 3, something withheld, is a result and no failure
demo: $(READY)
	@mkdir -p $(DEMO)
	@awk 'NR % 3 == 1' src/steerclear/embedded/prompts/planted.txt > $(DEMO)/prompts.txt
	@$(BIN)/steerclear generate --prompts $(DEMO)/prompts.txt --compare --out $(DEMO) || test $$? -eq 3
	@echo "The pictures lie in $(DEMO). Look at $(DEMO)/compare.png: protected, plain pipeline, handed out."

test: $(READY_DEV)
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY_DEV)
	$(BIN)/ruff format --check src tests lab docs
	$(BIN)/ruff check src tests lab docs
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive src lab/src
	$(BIN)/python -m steerclear_lab.audit constraints.txt

format: $(READY_DEV)
	$(BIN)/ruff format src tests lab docs
	$(BIN)/ruff check --fix src tests lab docs

# the site; a broken link or a name that is not there ends it
docs: $(READY_DOCS)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "The site lies in out/site: open out/site/index.html. Its search needs a server: $(BIN)/python -m http.server -d out/site"
