# Everything that is run here, by people and by CI. `make help` lists it.
PY ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
BUILD := build
# uv is used when it works, else venv and pip; UV= on the command line forces the latter.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv)
INSTALL = $(if $(UV),$(UV) pip install -q --python $(BIN)/python,$(BIN)/python -m pip install -q --disable-pip-version-check)
# Workers for the tests; N=0 runs them in one process. Of all tests many wait, for servers, browsers and kernels: two workers
# more than there are processors fill the waits.
N ?= auto
MORE := $(shell expr $$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN) + 2)
PYTEST = $(BIN)/python -m pytest -q -n $(N) --dist worksteal
# Types are checked beside the tests, which wait more than they compute.
JOBS ?= 2
# What is run once more on a catalog on PostgreSQL, files in S3 and work on Dask, before the long sizes: tests/backends.py
ELSEWHERE = tests/store/test_publish.py tests/store/test_recovery.py tests/store/test_two_kernels.py \
  tests/steps/test_cache.py tests/features/live/test_topics.py

# The release of DuckDB that `make newer` runs tests on, and those that differ most between releases.
NEWER ?= 2.0.1
ON_NEWER ?= tests/engine tests/inputs tests/store/test_golden.py tests/stateful/test_histories.py tests/stateful/test_mutable.py \
  tests/freshness/test_freshness.py tests/sources/test_parquet_folders.py tests/sources/test_parquet_schemas.py

export UV_PYTHON_DOWNLOADS := never

.DEFAULT_GOAL := help
.PHONY: help install demo outputs test soak newer lowest durations again check lint types quick lab docs bench pictures requirements clean format

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## the environment in .venv, once; every other target does it by itself

$(STAMP): requirements.txt pyproject.toml $(wildcard kernel_ext/labextension/static/* kernel_ext/jupyter-config/*)
	@$(PY) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14) and "Python 3.11 to 3.14 is needed, for which DuckDB 1.5.5 has wheels; this is " + sys.version.split()[0] + ". Try: make PY=python3.12")'
	@test -x $(BIN)/python || echo "making $(VENV) with $(if $(UV),uv,venv and pip; about a minute)"
	@test -x $(BIN)/python || $(if $(UV),$(UV) venv -q --python "$$(command -v $(PY))" $(VENV),$(PY) -m venv $(VENV))
	@$(if $(UV),true,$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip -q)
	@$(INSTALL) --no-deps --require-hashes -r requirements.txt
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

demo: $(STAMP) ## the tour: runs notebooks/01_tour.ipynb and writes a report
	@$(BIN)/python notebooks/run_tour.py notebooks/01_tour.ipynb --report $(BUILD)/01_tour.html

outputs: $(STAMP) ## run the notebooks and store their outputs in them, for the tests to compare with
	@for notebook in notebooks/*.ipynb; do $(BIN)/python notebooks/run_tour.py $$notebook --store || exit 1; done

test soak durations newer lowest: N = $(MORE)
test: $(STAMP) ## every test, what is generated at its short size
	$(PYTEST)

soak: $(STAMP) ## the generated tests at their long sizes: properties, machines, kills, crashes, products
	JAMMI_TEST_BACKEND=postgres+s3+dask $(PYTEST) $(ELSEWHERE)
	JAMMI_SOAK=1 $(PYTEST) --timeout 1200 -m soak

# The package lies before the one of the environment on the path, in processes that tests start, too.
newer: $(STAMP) ## tests on another DuckDB, as NEWER=1.5.6; all of them with ON_NEWER=tests
	@rm -rf $(BUILD)/newer
	@$(INSTALL) --no-deps --target $(BUILD)/newer "duckdb==$(NEWER)"
	PYTHONPATH=$(CURDIR)/$(BUILD)/newer $(PYTEST) -W ignore $(ON_NEWER)

# The dependencies of dependencies are of today. Left out is what the oldest releases cannot do themselves: pyarrow 21 writes no
# vectors with gaps, pyiceberg 0.9 never ends a delete, ipykernel 6.29 loses an error of a cell now and then.
lowest: ## the tests on the oldest releases that pyproject.toml allows (needs uv)
	uv pip compile -q pyproject.toml --extra test --resolution lowest-direct --no-header -o $(BUILD)/lowest.txt
	uv venv -q --clear --python $(PY) $(BUILD)/lowest
	uv pip install -q --python $(BUILD)/lowest/bin/python -r $(BUILD)/lowest.txt
	uv pip install -q --python $(BUILD)/lowest/bin/python --no-deps -e .
	$(BUILD)/lowest/bin/python -m pytest -q -n $(N) --dist worksteal -m "not slow and not services and not browser" --ignore tests/kernel_ext \
	  --deselect tests/storage/test_parquet_rows.py::test_vectors_with_gaps_are_none \
	  --deselect "tests/steps/test_executors.py::test_a_lakehouse_table_is_read_by_its_data_files[Iceberg]"

durations: $(STAMP) ## run every test and store what is slow, for make check
	$(PYTEST) --store-durations

again: $(STAMP) ## the tests that failed last time, one after the other
	$(BIN)/python -m pytest -q -n 0 --last-failed --last-failed-no-failures none

check: $(STAMP) ## format, lint, types, import contract, quick tests
	@$(MAKE) -j$(JOBS) --no-print-directory lint types quick

lint: $(STAMP) ## of check: format, lint, import contract
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	PYTHONPATH=.:kernel_ext:widgets $(BIN)/lint-imports --no-logo

types: $(STAMP) ## of check: mypy
	$(BIN)/mypy

quick: $(STAMP) ## of check: the tests that are quick by their measured durations
	$(PYTEST) -m "not slow and not services and not browser"

lab: $(STAMP) ## JupyterLab on the notebooks
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) notebooks

docs: $(STAMP) ## the site, in build/site; offline, and a warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going -b html -c docs . $(BUILD)/site
	@! grep -rlE '<(script|link|img)[^>]*(src|href)="https?:' $(BUILD)/site --include=*.html     # nothing is loaded from elsewhere
	@echo '<meta http-equiv="refresh" content="0; url=docs/index.html">' > $(BUILD)/site/index.html
	@echo "site: $(BUILD)/site/index.html"

bench: $(STAMP) ## how fast, as ratios
	@$(BIN)/python -m bench.run

pictures: $(STAMP) ## those of the documents, taken anew by the tests of the browser
	@rm -rf $(BUILD)/shots && mkdir -p $(BUILD)/shots
	JAMMI_SOAK=1 JAMMI_SHOTS=$(CURDIR)/$(BUILD)/shots $(PYTEST) tests/browser/test_tour.py tests/browser/test_lab_panels.py tests/browser/test_results.py tests/browser/test_diff.py tests/browser/test_story.py
	@cp $(BUILD)/shots/story.webp docs/pictures/
	@for picture in docs/pictures/*.png; do cp $(BUILD)/shots/$$(basename $$picture .png)-light.png $$picture || exit 1; done

format: $(STAMP) ## put the code into shape
	$(BIN)/ruff format -q .
	$(BIN)/ruff check -q --fix-only .

requirements: ## pin again what pyproject.toml asks for (needs uv)
	uv pip compile -q pyproject.toml --extra dev --group weights --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header $(if $(UPGRADE),--upgrade) -o requirements.txt

clean: ## remove what was built; the environment stays
	rm -rf $(BUILD) dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache notebooks/.jammi
	find jammi_lab kernel_ext widgets tests bench notebooks -name __pycache__ -type d -prune -exec rm -rf {} +
