# Everything here works on a machine that has Python 3.11 or newer and nothing else.
PYTHON ?= python3
NEWEST ?= python3.13
PY := .venv/bin/python
# Bytecode is compiled when a module is imported: most modules never are.
PIP := -m pip install --quiet --disable-pip-version-check --no-compile
PYTEST := -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal

.PHONY: demo test test-newest linklab lint docs wheel wheel-oldest outside-models bench clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PY) $(PIP) "pip>=25.1" "hatchling>=1.27"
	$(PY) $(PIP) --constraint constraints.txt --group dev --editable ".[train,report,cost]"
	touch $@

demo: .venv/ready ## train one model over five kinds of links, two seeds each; one table, one page
	$(PY) -m snap_jax demo --overwrite

.venv/all: .venv/ready ## every extra: data sets take the longest to install, and the demo needs none
	$(PY) $(PIP) --constraint constraints.txt --editable ".[all]"
	touch $@

test: .venv/all lint ## lint, then every test; those of optimized programs in a session of their own
	$(PY) $(PYTEST) -m "not optimized and not linklab" --durations 20 --durations-min 5
	$(PY) $(PYTEST) -m optimized --jaxtyping-packages= $$(grep -rl --include '*.py' mark.optimized tests)

.venv-newest/ready: pyproject.toml
	$(NEWEST) -m venv .venv-newest
	.venv-newest/bin/python $(PIP) "pip>=25.1" "hatchling>=1.27"
	.venv-newest/bin/python $(PIP) --group dev --editable ".[train]"
	touch $@

test-newest: .venv-newest/ready ## invariants, wires, payload bytes and a pipeline with the newest JAX
	.venv-newest/bin/python $(PYTEST) --laws 20 -k "not as_users_compile" tests/collectives tests/wires \
	  "tests/test_golden.py::test_values_are_those_recorded[payloads]" tests/parallel/test_pipeline.py

linklab: .venv/ready ## test networks of hosts on this machine, which needs root; skipped by name without
	$(PY) -m pytest -m linklab -rs tests/linklab

lint: .venv/all
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m pyright

.venv-docs/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python $(PIP) "pip>=25.1"
	.venv-docs/bin/python $(PIP) --constraint constraints.txt --group docs
	touch $@

docs: .venv-docs/ready ## the site in .cache/site; `python -m http.server --directory .cache/site` shows it
	PATH="$(CURDIR)/.venv-docs/bin:$$PATH" NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build

.venv-outside/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-outside
	.venv-outside/bin/python $(PIP) "pip>=25.1" "hatchling>=1.27"
	.venv-outside/bin/python $(PIP) --constraint constraints.txt --group dev --editable ".[all]"
	.venv-outside/bin/python $(PIP) --no-deps --group outside
	touch $@

outside-models: .venv-outside/ready ## models that others wrote, over devices; skipped by name in `make test`
	.venv-outside/bin/python $(PYTEST) tests/outside_models

wheel: .venv/all ## wheel and sdist in dist; the wheel tried in an empty environment outside of the checkout
	$(call try-wheel,--constraint constraints.txt)

wheel-oldest: .venv/all ## the same with the lowest versions of JAX, Flax and others that are allowed
	$(call try-wheel,--oldest)

define try-wheel
	rm -rf dist
	outside=$$(mktemp -d); $(PY) -m tests.support.wheel $$outside/environment $(1); \
	  status=$$?; rm -rf $$outside; exit $$status
endef

bench: .venv/all ## quick benchmarks into .cache/benchmarks/results.jsonl, and what changed since the last run
	$(PY) -m benchmarks

clean:
	rm -rf .venv .venv-newest .venv-outside .venv-docs .cache build dist
