# Everything happens in .venv. `make demo` and `make test` install what they need by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed

.PHONY: help install browser demo test check format docs clean

help:
	@echo "make demo    train MDPO on Procgen, evaluate it on levels it never saw, draw the learning curves"
	@echo "make test    run all tests"
	@echo "make browser install Chromium, which the tests of reports need, where there is none"
	@echo "make check   linters and type checks"
	@echo "make format  format the code"
	@echo "make docs    build the documentation: docs/_build/html/index.html"
	@echo "make clean   remove .venv, what the demo wrote and the built documentation"

install: $(INSTALLED)

$(INSTALLED): setup.cfg pyproject.toml constraints.txt _build/backend.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[all,dev,docs]'
	touch $@

# Below ten minutes on two cores. Interrupted, it can be run again.
demo: install
	$(BIN)/rl_zoo3 train --algo mdpo --env procgen-starpilot-easy-v0 -conf examples/demo.yml -f demo/logs \
		--device cpu --seed 1 --progress --verbose 0 --eval-freq 25000 --eval-episodes 64 --n-eval-envs 32
	$(BIN)/python examples/demo_report.py procgen-starpilot-easy-v0 -f demo/logs -o demo/learning_curve.png

test: install browser
	$(BIN)/python -m pytest -n auto --dist worksteal

# The tests of reports look at them in it
browser:
	@if ! { command -v chromium || command -v chromium-browser || command -v google-chrome; } > /dev/null; then \
		if [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null; then \
			apt-get update -q && apt-get install -q -y --no-install-recommends chromium; \
		else \
			echo "The tests of reports need Chromium or Chrome: apt-get install chromium, as root."; \
		fi; \
	fi

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf $(VENV) demo docs/_build
