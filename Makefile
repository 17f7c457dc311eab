# The menu. Nothing here knows what is stale: artifacts are found by their keys.
#
#   make all DATASET=cub DATA=/data
#   make scores DATASET=cub SET="scores.temperature=0.01 scores.n=20"
#   make all DATASET=imagenet WORKERS=4

DATASET ?= demo
PROFILE ?= official
SET     ?=
DATA    ?=
WEIGHTS ?=
IMAGES  ?=
WORKERS ?=
SCHEDULER ?=
PART    ?=
PYTHON  ?= python3

VENV := .venv
BIN  := $(VENV)/bin
# One shell word, whatever is in it.
quoted = '$(subst ','\'',$(1))'
RUN  := $(if $(DATA),ABS_DATA=$(call quoted,$(DATA))) \
        $(if $(WEIGHTS),ABS_WEIGHTS=$(call quoted,$(WEIGHTS))) $(BIN)/abs
ARGS := --dataset $(call quoted,$(DATASET)) --profile $(call quoted,$(PROFILE)) \
        $(if $(SET),--set $(call quoted,$(SET)))
WHERE := $(if $(WORKERS),--workers $(call quoted,$(WORKERS))) \
         $(if $(SCHEDULER),--scheduler $(call quoted,$(SCHEDULER))) \
         $(if $(PART),--part $(call quoted,$(PART)))

.DEFAULT_GOAL := help
.PHONY: help all index descriptions attention crops embeddings scores metrics status \
        test check format bench torture demo-models demo-table clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile
	@echo
	@echo '  DATASET=demo  PROFILE=official  SET="section.field=value ..."'
	@echo '  DATA=/folder/of/datasets  WEIGHTS=/folder/of/weights'
	@echo '  WORKERS=4, or SCHEDULER=tcp://host:8786, or PART=3/16 (docs/cluster.md)'

all: $(VENV)/installed ## every stage that is missing, then the table of results
	@$(RUN) run $(ARGS) $(WHERE)

index: $(VENV)/installed ## which images there are
	@$(RUN) run --to index $(ARGS) $(WHERE)

descriptions: $(VENV)/installed ## the texts of each class, encoded
	@$(RUN) run --to descriptions $(ARGS) $(WHERE)

attention: $(VENV)/installed ## where a self-supervised ViT looks
	@$(RUN) run --to attention $(ARGS) $(WHERE)

crops: $(VENV)/installed ## where to crop images and token grids
	@$(RUN) run --to crops $(ARGS) $(WHERE)

embeddings: $(VENV)/installed ## whole images, raw crops, feature crops as vectors
	@$(RUN) run --to embeddings $(ARGS) $(WHERE)

scores: $(VENV)/installed ## every image against every class, then the table of results
	@$(RUN) run --to metrics $(ARGS) $(WHERE)

metrics: $(VENV)/installed ## accuracy of each method
	@$(RUN) run --to metrics $(ARGS) $(WHERE)

status: $(VENV)/installed ## what is stored for these settings
	@$(RUN) status $(ARGS)

test: $(VENV)/developer ## the test suite
	@$(BIN)/pytest -n auto --maxprocesses 4 --dist worksteal

check: $(VENV)/developer ## linter, formatter, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/developer ## let the formatter write
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: $(VENV)/installed ## this machine, every stage beside the plain way (IMAGES=/photographs)
	@$(BIN)/abs bench $(if $(IMAGES),--images $(call quoted,$(IMAGES)))

torture: $(VENV)/developer ## kills, several processes, flipped bytes, odd commands (half an hour)
	@$(BIN)/python -m tests.torture

demo-models: $(VENV)/installed ## train the demo's two models again, from seeds
	@$(BIN)/python -m pipeline.demo.build all

demo-table: $(VENV)/installed ## all methods, components and profiles on the demo, over five seeds
	@$(BIN)/python -m pipeline.demo.table

clean: ## remove the virtual environment and caches; artifacts stay
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "make: $(PYTHON) is older than 3.11; set PYTHON=python3.11 or newer" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV) (a few minutes, once)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/developer: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
