# Everything happens in .venv. Each target installs what it needs and can be run again after an interruption.
PYTHON ?= python3
# Exact versions for Python 3.11; CONSTRAINTS=/dev/null takes the newest ones
CONSTRAINTS ?= constraints.txt
VENV := .venv
BIN := $(VENV)/bin
PROJECT := setup.cfg pyproject.toml $(filter-out /dev/null,$(CONSTRAINTS)) _build/backend.py
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c $(CONSTRAINTS)

.PHONY: help install browser demo test check format coverage docs clean

help:
	@echo "make demo      train MDPO on Procgen, compare it with policies that do not distill, show both on a page"
	@echo "make test      run all tests"
	@echo "make check     linters, type checks and the import contract"
	@echo "make browser   install Chromium with apt-get, for the tests of the report page"
	@echo "make coverage  run all tests and show how much of the package they cover"
	@echo "make format    format the code"
	@echo "make docs      build the documentation: docs/_build/html/index.html"
	@echo "make clean     remove .venv, what the demo wrote and the built documentation"

install: $(VENV)/installed

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(PROJECT) | $(VENV)/bin/python
	$(PIP) -e '.[all,dev,docs]'
	touch $@ $(VENV)/installed-demo

# Less than the tests need: Procgen and the report
$(VENV)/installed-demo: $(PROJECT) | $(VENV)/bin/python
	$(PIP) -e '.[procgen,lab]'
	touch $@

STARPILOT := demo/logs/mdpo/procgen-starpilot-easy-v0_1

# Five minutes on two cores. Run again after an interruption, it does what is missing.
demo: $(STARPILOT)/procgen-starpilot-easy-v0.zip
	$(BIN)/sb3-mdpo study run examples/demo_study.yml -o demo/studies/textured_grid
	$(BIN)/sb3-mdpo report $(STARPILOT) -o demo/starpilot.html
	$(BIN)/sb3-mdpo report demo/studies/textured_grid -o demo/textured_grid.html
	$(BIN)/python examples/demo_report.py $(STARPILOT) demo/studies/textured_grid -o demo/picture.png

$(STARPILOT)/procgen-starpilot-easy-v0.zip: | $(VENV)/installed-demo
	rm -rf demo/logs
	$(BIN)/rl_zoo3 train --algo mdpo --env procgen-starpilot-easy-v0 -conf examples/demo.yml -f demo/logs \
		--device cpu --seed 1 --eval-freq -1 --progress --verbose 0

test: install
	-@$(MAKE) --no-print-directory browser
	$(BIN)/python -m pytest -n auto --dist worksteal

browser:
	@command -v chromium || command -v chromium-browser || command -v google-chrome \
		|| { apt-get update -q && apt-get install -q -y --no-install-recommends chromium; }

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

coverage: install
	$(BIN)/python -m pytest -n auto --dist worksteal --cov --cov-report=term:skip-covered

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf $(VENV) demo docs/_build
