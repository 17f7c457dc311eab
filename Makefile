# Shortcuts for common commands. Make does not track what is out of date: abs does, by keys.
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
# Quote a value as one shell word.
quoted = '$(subst ','\'',$(1))'
RUN  := $(if $(DATA),ABS_DATA=$(call quoted,$(DATA))) \
        $(if $(WEIGHTS),ABS_WEIGHTS=$(call quoted,$(WEIGHTS))) $(BIN)/abs
ARGS := --dataset $(call quoted,$(DATASET)) --profile $(call quoted,$(PROFILE)) \
        $(if $(SET),--set $(call quoted,$(SET)))
XDIST := -n auto --maxprocesses 4 --dist worksteal
WHERE := $(if $(WORKERS),--workers $(call quoted,$(WORKERS))) \
         $(if $(SCHEDULER),--scheduler $(call quoted,$(SCHEDULER))) \
         $(if $(PART),--part $(call quoted,$(PART)))

# Keep compiled modules: otherwise each of the processes that tests start compiles them again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help all report index descriptions attention crops embeddings scores metrics status \
        test quick check format docs browser bench gpu torture demo-models demo-table picture clean

help: ## print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile
	@echo
	@echo '  DATASET=demo  PROFILE=official  SET="section.field=value ..."'
	@echo '  DATA=/folder/of/datasets  WEIGHTS=/folder/of/weights'
	@echo '  WORKERS=4, or SCHEDULER=tcp://host:8786, or PART=3/16 (docs/cluster.md)'

all: $(VENV)/installed ## run every missing stage, then print the table of results
	@$(RUN) run $(ARGS) $(WHERE)
	@echo "Charts, and what each crop saw: make report DATASET="$(call quoted,$(DATASET))

report: $(VENV)/reporter ## write the results and crops of a finished run as pages for a browser
	@$(RUN) report $(call quoted,$(DATASET)) $(if $(filter-out official,$(PROFILE)),--profile $(call quoted,$(PROFILE))) \
	  $(if $(SET),--set $(call quoted,$(SET)))

index: $(VENV)/installed ## list the images of the dataset
	@$(RUN) run --to index $(ARGS) $(WHERE)

descriptions: $(VENV)/installed ## encode the texts of each class
	@$(RUN) run --to descriptions $(ARGS) $(WHERE)

attention: $(VENV)/installed ## compute the attention maps of a self-supervised ViT
	@$(RUN) run --to attention $(ARGS) $(WHERE)

crops: $(VENV)/installed ## draw the crops of images and of token grids
	@$(RUN) run --to crops $(ARGS) $(WHERE)

embeddings: $(VENV)/installed ## encode whole images, raw crops and feature crops
	@$(RUN) run --to embeddings $(ARGS) $(WHERE)

scores: $(VENV)/installed ## score every image against every class, then print the table of results
	@$(RUN) run --to metrics $(ARGS) $(WHERE)

metrics: $(VENV)/installed ## compute the accuracy of each method
	@$(RUN) run --to metrics $(ARGS) $(WHERE)

status: $(VENV)/installed ## print the state of every stage for these settings
	@$(RUN) status $(ARGS)

test: $(VENV)/developer ## run all tests
	@$(BIN)/pytest $(XDIST)

quick: $(VENV)/developer ## run the quick tests: none that is slow or starts processes or clusters
	@$(BIN)/pytest $(XDIST) -m "not slow and not subprocess and not cluster"

check: $(VENV)/developer ## run linter, format check and type checker
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

docs: $(VENV)/documenter ## build the documentation into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

format: $(VENV)/developer ## fix lint errors and format the code
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

bench: $(VENV)/installed ## time every stage against a plain implementation (IMAGES=/photographs)
	@$(BIN)/abs bench $(if $(IMAGES),--images $(call quoted,$(IMAGES)))

gpu: $(VENV)/installed ## check results and measure speed on a CUDA device (8 minutes; IMAGES=/photographs)
	@$(BIN)/python -m pipeline.bench.gpu $(if $(IMAGES),$(call quoted,$(IMAGES)))

torture: $(VENV)/developer ## stress tests: kills, damaged files, random commands (half an hour)
	@$(BIN)/python -m pipeline.bench.torture

demo-models: $(VENV)/installed ## rebuild the demo's images and models from seeds (over an hour)
	@$(BIN)/python -m pipeline.demo.build all

demo-table: $(VENV)/installed ## print the demo's results: all methods and profiles, over five seeds
	@$(BIN)/python -m pipeline.demo.table

picture: $(VENV)/developer ## draw docs/images/demo.svg from the demo's artifacts
	@$(BIN)/abs run demo --to crops --set "scores.methods=[abs]" --quiet
	@$(BIN)/abs figure crops demo --images white-headed_shortbill/10.png --format svg \
	  --out docs/images/demo --set "scores.methods=[abs]"

clean: ## remove the virtual environment and caches, but no artifacts
	rm -rf $(VENV) build site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

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

$(VENV)/reporter: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[report]'
	@touch $@

browser: ## install what the tests of reports drive: Chromium (Debian, as root) and axe-core (npm)
	@{ command -v chromedriver && command -v npm; } >/dev/null || \
	  { apt-get update -q && apt-get install -y -q chromium chromium-driver $$(command -v npm >/dev/null || echo npm); }
	@cd tests/report && npm install --silent --no-package-lock --no-audit --no-fund

$(VENV)/documenter: $(VENV)/installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@
