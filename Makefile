# make env    everything the project needs, in .venv (VENV=... for another environment)
# make test   formatting, lint, types and all tests
# make demo   ten minutes from random weights to a trained, evaluated, visible panoptic DETR
# make page   the shipped model in a page, for pictures of yours: output/page/model.html (needs npm)

VENV ?= .venv
# The first supported Python that runs here.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.10 python3; do \
	$$p -c "import venv" >/dev/null 2>&1 && echo $$p && break; done)
RUN := $(VENV)/bin/python -W ignore

.PHONY: env test demo page
env:
	@$(PYTHON) tools/setup_env.py $(VENV)

test: env
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses 2 --dist loadfile

demo: env
	@$(RUN) tools/shapes_demo.py

SHAPES := Shapes-PanopticSegmentation
page: env
	@npm install --silent --no-save --no-package-lock --prefix . onnxruntime-web@1.30.0
	@$(RUN) tools/prepare_shapes.py
	@$(RUN) tools/export.py --format web --output output/page \
		--config-file configs/$(SHAPES)/panoptic_detr_fast.yaml \
		MODEL.WEIGHTS configs/$(SHAPES)/checkpoint/panoptic_detr_fast.pth
