# Everything here works on a machine that has Python 3.11 or newer and nothing else.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: demo test lint bench clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check "pip>=25.1" "hatchling>=1.27"
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --group dev --editable .
	touch $@

demo: .venv/ready ## train dense, int4 and spike links on real text; one table, one page
	$(PY) -m snap_jax demo

.venv/data: .venv/ready ## what reads the data sets of TFDS; only the tests need it
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[data]"
	touch $@

test: .venv/data lint ## lint, then every test
	$(PY) -m pytest --numprocesses 2 --durations 20 --durations-min 5

lint: .venv/ready
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright

bench: .venv/ready ## every benchmark; ratios within one run
	$(PY) -m benchmarks

clean:
	rm -rf .venv build dist
