# make: set up and run the main job · make test: set up and test · make test-slurm · make env, lint, lock, report, paper, docs, bench, gpu-smoke, clean
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := main
.PHONY: main env test test-kills test-slurm lint lock report paper reference docs bench gpu-smoke clean

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
	$(BIN)/pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test-kills: $(READY) # kills a whole run on tiny settings twelve times
	OODCERT_KILLS=12 $(BIN)/pytest tests/workflow/test_workflow.py -k killed

test-slurm: $(READY) # as root, on Debian: installs Slurm and runs the workflow on one node; an hour or more
	TEST_SLURM=install $(BIN)/pytest tests/workflow/test_slurm.py

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint

lock: # needs uv; envs/requirements.lock keeps its pins unless deleted first
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate \
	  --extra workflow --extra dev pyproject.toml --output-file envs/requirements.lock
	$(BIN)/python envs/sync.py

report: main
	$(BIN)/snakemake --report report.html

paper: $(READY) # paper/report.pdf, from the committed references
	$(BIN)/snakemake --cores 1 paper

PROFILE ?= digits
CONFIG = config/$(if $(filter digits,$(PROFILE)),config,$(PROFILE)).yaml

reference: $(READY) # a run from the start, kept as the committed reference; make reference PROFILE=cifar-lite MIRROR=DIR
	rm -rf results/$(PROFILE) figures/$(PROFILE) data/$(PROFILE) results/reference/$(PROFILE) figures/reference/$(PROFILE)
	$(BIN)/snakemake --cores all --configfile $(CONFIG) $(if $(MIRROR),--config data_mirror=$(MIRROR))
	mkdir -p results/reference figures/reference
	cp -r results/$(PROFILE) results/reference/$(PROFILE)
	rm -r results/reference/$(PROFILE)/models results/reference/$(PROFILE)/audit
	cp -r figures/$(PROFILE) figures/reference/$(PROFILE)
	$(BIN)/oodcert audit results/reference/$(PROFILE)

docs: $(READY) # the figures and tables of the pages in docs/ that are made from evidence and measurements
	$(BIN)/python docs/bounds.py
	$(BIN)/python docs/operations.py
	$(BIN)/python docs/performance.py
	$(BIN)/python docs/results.py
	$(BIN)/python docs/structure.py

ALL_BOUNDS = percentile cdf gaussian lipschitz

bench: $(READY) # needs a finished digits run (make)
	$(BIN)/python benchmarks/run.py
	$(BIN)/python benchmarks/certify.py
	$(BIN)/python benchmarks/total.py --fixed-images 2
	$(BIN)/python benchmarks/total.py --fixed-images 2 --bounds $(ALL_BOUNDS) --out results/benchmarks/total-all.json
	$(BIN)/python benchmarks/adaptive.py
	$(BIN)/python benchmarks/guarantees.py
	$(BIN)/python benchmarks/interval.py
	$(BIN)/python benchmarks/attack.py
	$(BIN)/python benchmarks/train.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/choices.py
	$(BIN)/python benchmarks/scaling.py

gpu-smoke: # nine minutes on a GPU; with the environment of make env, else with the python3 that has the dependencies
	$(if $(wildcard $(BIN)/python),$(BIN)/python,python3) benchmarks/gpu_smoke.py

clean: # removes computed files and the environment; keeps downloads
	rm -rf .venv .snakemake logs exports report.html paper/report.pdf paper/numbers.json \
	  $(filter-out results/reference,$(wildcard results/*)) \
	  $(filter-out figures/reference,$(wildcard figures/*)) $(filter-out %.csv data/splits data/downloads,$(wildcard data/*))
