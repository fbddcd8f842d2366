# make: set up and run the main job · make test: set up and test · make env, lint, lock, report, docs, bench, clean
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := main
.PHONY: main env test lint lock report reference docs bench clean

main: $(READY)
	$(BIN)/snakemake --cores all

env: $(READY)

$(READY): envs/requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
	  { echo "The lock file is for Python 3.11, $(PYTHON) is another version: run make PYTHON=/path/to/python3.11" >&2; exit 1; }
	rm -rf .venv
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --require-hashes --requirement envs/requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	touch $(READY)

test: lint
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

lock: # needs uv; envs/requirements.lock keeps its pins unless deleted first
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --extra workflow --extra dev pyproject.toml --output-file envs/requirements.lock
	$(BIN)/python envs/sync.py

report: main
	$(BIN)/snakemake --report report.html

reference: $(READY) # a run from nothing, kept as the committed reference
	rm -rf results/digits figures/digits data/digits results/reference/digits figures/reference/digits
	$(BIN)/snakemake --cores all
	mkdir -p results/reference figures/reference
	cp -r results/digits results/reference/digits && rm -r results/reference/digits/models
	cp -r figures/digits figures/reference/digits

docs: $(READY) # the figure and the table of docs/certificates.md
	$(BIN)/python docs/bounds.py

bench: $(READY) # needs a finished digits run: make
	$(BIN)/python benchmarks/certify.py
	$(BIN)/python benchmarks/adaptive.py
	$(BIN)/python benchmarks/attack.py

clean: # removes everything that is computed, and the environment
	rm -rf .venv .snakemake results/digits figures/digits data/digits logs report.html
