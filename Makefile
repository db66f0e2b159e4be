# Every command works from a fresh clone with Python 3.11, 3.12 or 3.13 (with venv) and GNU make.
# A cell is one Airflow on one Python: pins in requirements/<cell>.txt, environment in .venv/<cell>.

CELLS := airflow-2.11.2-py311 airflow-3.1.8-py311 \
         airflow-3.3.2-py311 airflow-3.3.2-py312 airflow-3.3.2-py313
# Exactly the lowest versions that pyproject.toml allows.
LOWEST_CELL := airflow-2.11.0-py311
CELL ?=
SKIP ?=
ARGS ?=
PYTHON ?=

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SECONDEXPANSION:

# --- What the user's environment may not change, and how the installer reaches the package registry ---

unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONWARNINGS PYTHONSAFEPATH VIRTUAL_ENV CONDA_PREFIX
# Without bytecode each process compiles Airflow anew: half of what the tests take.
unexport PYTHONDONTWRITEBYTECODE PYTHONPYCACHEPREFIX
unexport PYTEST_ADDOPTS PYTEST_PLUGINS MYPYPATH MYPY_CONFIG_FILE_DIR RUFF_CONFIG
unexport UV_PYTHON UV_SYSTEM_PYTHON UV_MANAGED_PYTHON UV_PROJECT UV_PROJECT_ENVIRONMENT UV_WORKING_DIRECTORY
unexport UV_CONSTRAINT UV_BUILD_CONSTRAINT UV_OVERRIDE UV_EXCLUDE UV_EXCLUDE_NEWER UV_RESOLUTION UV_PRERELEASE
unexport $(filter AIRFLOW_% _AIRFLOW_%,$(.VARIABLES))
export PYTHONNOUSERSITE := 1
export UV_PYTHON_DOWNLOADS := never
export UV_HTTP_TIMEOUT ?= 120
# Once, by all cores: else each process of a first run compiles what it imports, and some may not write it.
export UV_COMPILE_BYTECODE := 1
ifdef PIP_INDEX_URL
export UV_DEFAULT_INDEX ?= $(PIP_INDEX_URL)
endif

# The simulator listens on loopback, where no proxy leads.
comma := ,
export NO_PROXY := 127.0.0.1,localhost$(addprefix $(comma),$(or $(no_proxy),$(NO_PROXY)))
export no_proxy := $(NO_PROXY)

# --- Interpreters and environments ---

# Looked for once, and only when a target needs it.
MAIN_PYTHON = $(eval MAIN_PYTHON := $$(shell scripts/find-python -p '$(PYTHON)' 3.11 3.12 3.13))$(or \
  $(MAIN_PYTHON),$(error no usable Python, see above))
MAIN_MINOR = $(eval MAIN_MINOR := $$(shell '$$(MAIN_PYTHON)' -c 'import sys; print(sys.version_info[1])'))$(MAIN_MINOR)
MAIN_CELL = airflow-3.3.2-py3$(MAIN_MINOR)

# airflow-3.1.8-py311 -> 3.1.8, 11
version = $(word 2,$(subst -, ,$(1)))
minor = $(patsubst py3%,%,$(word 3,$(subst -, ,$(1))))

# PYTHON chooses the main cell and serves it; the cells of other versions look for theirs.
cell-python = $(if $(filter $(MAIN_MINOR),$(1)),'$(MAIN_PYTHON)',"$$(scripts/find-python 3.$(1))")

# uv does not read where pip finds its certificates, nor pip's files: a mirror is often written only there.
CA := $(or $(SSL_CERT_FILE),$(PIP_CERT),$(REQUESTS_CA_BUNDLE))
PIP_INDEX = $$(.venv/tools/bin/python -m pip config get global.index-url 2>/dev/null)
UV := $(if $(CA),SSL_CERT_FILE='$(CA)' )$(if $(UV_DEFAULT_INDEX)$(UV_INDEX_URL),,UV_DEFAULT_INDEX="$(PIP_INDEX)" ).venv/tools/bin/uv

.venv/tools/.stamp: requirements/uv.txt
	'$(MAIN_PYTHON)' -m venv --clear .venv/tools
	.venv/tools/bin/python -m pip install -q -r requirements/uv.txt
	@touch $@

# $(1): pin files, $(2): Python
define fill
	@$(@D)/bin/python -c '' 2>/dev/null || { python=$(strip $(2)) && $(UV) venv -q --clear --python "$$python" $(@D); }
	$(UV) pip sync -q --python $(@D) $(1)
	$(UV) pip install -q --python $(@D) --no-build-isolation --no-deps -e .
	@touch $@
endef

.venv/airflow-%/.stamp: requirements/airflow-%.txt pyproject.toml | .venv/tools/.stamp
	$(call fill,$<,$(call cell-python,$(call minor,airflow-$*)))

.venv/lint/.stamp: requirements/$$(MAIN_CELL).txt requirements/lint.txt pyproject.toml | .venv/tools/.stamp
	$(call fill,requirements/$(MAIN_CELL).txt requirements/lint.txt,'$(MAIN_PYTHON)')

.venv/docs/.stamp: requirements/$$(MAIN_CELL).txt requirements/docs.txt pyproject.toml | .venv/tools/.stamp
	$(call fill,requirements/$(MAIN_CELL).txt requirements/docs.txt,'$(MAIN_PYTHON)')

# The FOCUS validator needs libraries that are older than Airflow's; without its Python its tests are skipped.
.venv/focus-1.0/.stamp: FOCUS_MINOR = 11
.venv/focus-1.2/.stamp: FOCUS_MINOR = 12
.venv/focus-%/.stamp: requirements/focus-%.txt | .venv/tools/.stamp
	@python=$(call cell-python,$(FOCUS_MINOR)) || exit 0; \
	  $(UV) venv -q --clear --python "$$python" $(@D) && $(UV) pip sync -q --python $(@D) $< && touch $@

.venv/celery/.stamp: requirements/$$(MAIN_CELL).txt requirements/celery.txt pyproject.toml | .venv/tools/.stamp
	$(call fill,requirements/$(MAIN_CELL).txt requirements/celery.txt,'$(MAIN_PYTHON)')

# --- Targets ---

MATRIX = MAKE='$(MAKE_COMMAND)' .venv/tools/bin/python scripts/matrix.py

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: env
env: .venv/$$(MAIN_CELL)/.stamp .venv/lint/.stamp ## the environments of tests and lint, nothing else

.PHONY: demo
demo: .venv/$$(MAIN_CELL)/.stamp ## a real DAG run against the simulator, offline
	.venv/$(MAIN_CELL)/bin/python scripts/demo.py $(ARGS)

.PHONY: demo-costs
demo-costs: .venv/$$(MAIN_CELL)/.stamp ## two months of simulated spending, reported as web pages, offline
	@.venv/$(MAIN_CELL)/bin/python scripts/demo_costs.py demo-costs

.PHONY: test
test: .venv/tools/.stamp ## the quick suite on Airflow 3.3.2 and the Python found (ARGS='-k name' for pytest)
	@$(MATRIX) $(MAIN_CELL) -- $(ARGS)

.PHONY: test-cell
test-cell: .venv/tools/.stamp ## the quick suite in one cell: CELL=airflow-3.1.8-py311
	$(if $(filter $(CELL),$(CELLS) $(LOWEST_CELL)),,$(error CELL must be one of: $(CELLS) $(LOWEST_CELL)))
	@$(MATRIX) $(CELL) -- $(ARGS)

.PHONY: test-matrix
test-matrix: .venv/tools/.stamp ## the quick suite in every cell (SKIP='cell ...' to leave some out)
	@$(MATRIX) $(filter-out $(SKIP),$(CELLS)) -- $(ARGS)

.PHONY: test-newest
test-newest: .venv/tools/.stamp ## the wheel in the newest Airflow of the package index, nothing pinned
	rm -rf .venv/newest dist
	$(UV) venv -q --python '$(MAIN_PYTHON)' .venv/newest
	$(UV) build -q --wheel --out-dir dist .
	$(UV) pip install -q --python .venv/newest dist/*.whl -r requirements/test.in
	.venv/newest/bin/pytest -n 3 --dist worksteal tests $(ARGS)

.PHONY: test-e2e
# Its Airflows may write no bytecode (tests/e2e/deployment.py): without any, each of them starts in twice the time.
# A file to a worker: else each worker starts an Airflow of its own.
test-e2e: E2E_CELL = $(or $(CELL),$(MAIN_CELL))
test-e2e: .venv/$$(or $$(CELL),$$(MAIN_CELL))/.stamp ## a real Airflow: crashes, the hunt for leaks, months of days; the slow tests too
	-@.venv/$(E2E_CELL)/bin/python -m compileall -qq -j 0 .venv/$(E2E_CELL)/lib
	@$(MATRIX) $(E2E_CELL) -- -m 'e2e or slow' -n 3 --dist loadfile \
	  -o faulthandler_timeout=900 $(ARGS)

.PHONY: test-celery
test-celery: .venv/celery/.stamp ## two hosts: CeleryExecutor, PostgreSQL, Redis (Debian, as root; 8 minutes at most)
	@scripts/install-servers
	timeout --foreground --signal INT --kill-after 60 480 \
	  .venv/celery/bin/python -m pytest -n 0 -m celery tests/celery $(ARGS)

.PHONY: test-deep
test-deep: .venv/tools/.stamp .venv/focus-1.0/.stamp .venv/focus-1.2/.stamp ## the long property tests, and the FOCUS validator
	@CLOSEAI_DEEP=1 $(MATRIX) $(MAIN_CELL) -- -m 'deep or property' -o faulthandler_timeout=0 $(ARGS)

.PHONY: lint
lint: .venv/lint/.stamp ## ruff, mypy --strict and the arrows between rooms, with Airflow installed
	@AIRFLOW_HOME='$(CURDIR)/.venv/lint/airflow' .venv/lint/bin/python -c 'import airflow'
	.venv/lint/bin/ruff check .
	.venv/lint/bin/ruff format --check .
	.venv/lint/bin/mypy
	for file in tests/*/conftest.py; do .venv/lint/bin/mypy --no-error-summary $$file || exit 1; done
	.venv/lint/bin/lint-imports --no-logo --no-cache
	.venv/lint/bin/zizmor -q --offline .github

.PHONY: docs
docs: .venv/docs/.stamp ## the documentation as a site in .venv/docs/site, warnings as errors
	AIRFLOW_HOME='$(CURDIR)/.venv/docs/airflow' .venv/docs/bin/sphinx-build -q -W --keep-going -E \
	  -c docs/site -d .venv/docs/doctrees docs .venv/docs/site

.PHONY: audit
audit: .venv/tools/.stamp ## known vulnerabilities in what the package depends on
	$(UV) venv -q --clear --python '$(MAIN_PYTHON)' .venv/audit
	$(UV) pip sync -q --python .venv/audit requirements/audit.txt
	.venv/audit/bin/pip-audit --strict --disable-pip --no-deps -r requirements/$(MAIN_CELL).txt

.PHONY: bench
bench: .venv/$$(MAIN_CELL)/.stamp ## speed and memory, measured
	$(UV) pip install -q --python .venv/$(MAIN_CELL) -r requirements/bench.txt -c requirements/$(MAIN_CELL).txt
	.venv/$(MAIN_CELL)/bin/python scripts/bench.py $(ARGS)

.PHONY: bench-triggerer
bench-triggerer: .venv/celery/.stamp ## ten thousand deferred sensors in a real triggerer (Debian, as root)
	@scripts/install-servers
	PYTHONPATH=tests/e2e .venv/celery/bin/python tests/celery/ten_thousand.py $(ARGS)

.PHONY: hosts-table
hosts-table: .venv/$$(MAIN_CELL)/.stamp ## random schedules over two hosts, with the lock and without
	.venv/$(MAIN_CELL)/bin/python tests/faults/fault_hosts.py 200

.PHONY: build
build: .venv/$$(MAIN_CELL)/.stamp ## wheel and sdist into dist/
	rm -rf dist
	$(UV) build -q --no-build-isolation --python .venv/$(MAIN_CELL)/bin/python --out-dir dist .
	@ls -l dist

COMPILE = $(UV) pip compile -q --upgrade --no-emit-index-url --no-header --annotation-style line

.PHONY: pins
pins: $(addprefix pin-,$(CELLS) $(LOWEST_CELL)) ## renew every pin file but uv.txt
	$(COMPILE) --python-version 3.11 $(patsubst %,-c requirements/%.txt,$(filter airflow-3.3.2-%,$(CELLS))) \
	  requirements/lint.in -o requirements/lint.txt
	$(COMPILE) --python-version 3.11 -c requirements/airflow-3.3.2-py311.txt \
	  requirements/bench.in -o requirements/bench.txt
	$(COMPILE) --python-version 3.11 -c requirements/airflow-3.3.2-py311.txt \
	  requirements/docs.in -o requirements/docs.txt
	echo pip-audit | $(COMPILE) --python-version 3.11 - -o requirements/audit.txt
	$(COMPILE) --python-version 3.11 --exclude-newer 2024-12-31 requirements/focus-1.0.in -o requirements/focus-1.0.txt
	$(COMPILE) --python-version 3.12 requirements/focus-1.2.in -o requirements/focus-1.2.txt
	$(COMPILE) --python-version 3.11 --no-emit-package deprecated -c requirements/airflow-3.3.2-py311.txt \
	  requirements/celery.in -o requirements/celery.txt  # deprecated: each Python has a version of its own

# Airflow publishes no upper bounds: with libraries newer than these dates the older ones break.
pin-airflow-2.11.2-py311 pin-airflow-3.1.8-py311 pin-$(LOWEST_CELL): COMPILE += --exclude-newer 2026-06-15 \
  --exclude-newer-package apache-airflow-providers-common-compat=2026-11-20

# With a newer universal-pathlib Airflow 2.11.0 cannot make an ObjectStoragePath.
pin-$(LOWEST_CELL): | .venv/tools/.stamp
	$(COMPILE) --python-version 3.11 --resolution lowest-direct --no-deps --all-extras pyproject.toml -o requirements/lowest.txt
	echo 'universal-pathlib<0.3' | $(COMPILE) --python-version 3.11 -c requirements/lowest.txt --all-extras \
	  - pyproject.toml requirements/test.in -o requirements/$(LOWEST_CELL).txt
	rm requirements/lowest.txt

pin-airflow-%: | .venv/tools/.stamp
	echo 'apache-airflow==$(call version,airflow-$*)' | $(COMPILE) --python-version 3.$(call minor,airflow-$*) \
	  - pyproject.toml requirements/test.in -o requirements/airflow-$*.txt

.PHONY: main-cell
main-cell:
	@echo $(MAIN_CELL)

.PHONY: clean
clean: ## remove environments, builds and caches
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
