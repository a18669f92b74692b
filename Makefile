# Everything runs in .venv, which the first target to need it makes.
# Another interpreter: make PYTHON=python3.12 test

PYTHON ?= python3
python := .venv/bin/python

.PHONY: demo test check format wheel pack train-gpu

demo: .venv/installed
	$(python) examples/demo.py docs/demo.png

test: .venv/installed
	$(python) -m pytest

check: .venv/installed
	$(python) -m ruff format --check .
	$(python) -m ruff check .
	$(python) -m mypy
	$(python) -m pytest

format: .venv/installed
	$(python) -m ruff format .
	$(python) -m ruff check --fix .

wheel: .venv/installed
	$(python) -m build --no-isolation

.venv/bin/python:
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }  # Debian's own needs python3-venv

.venv/installed: pyproject.toml constraints-cpu.txt tools/torchvision_cpu.py | .venv/bin/python
	$(python) -m pip install --constraint constraints-cpu.txt --editable ".[dev]"
	$(python) tools/torchvision_cpu.py
	touch $@

# What a training run needs, small enough to carry to a machine with a GPU: docs/training.md.
# make pack PHOTOGRAPHS="FOLDER ..." TEACHERS="FILE ..."
pack: .venv/installed
	$(python) tools/pack_training.py runs/pack $(PHOTOGRAPHS:%=--images %) $(TEACHERS:%=--teacher-weights %)

# There, with any Python that has torch and timm; every call goes on where the last one was stopped.
# A profile's steps are what SECONDS allow in a few calls on one H100 or H200: choose by the log.
GPU_PYTHON ?= python3
DEVICE ?= cuda
PROFILE ?= fast
SECONDS ?= 560
STEPS ?= 8000
BATCH ?= 128
CROP ?= 128

train-gpu: runs/images
	timeout --signal=TERM $(SECONDS) $(GPU_PYTHON) -m vrdir_plug.cli train --images runs/images \
		--teacher torchvision:mobilenet_v2=runs/pack/teachers/mobilenet_v2-b0353104.safetensors \
		--teacher timm:tf_efficientnet_lite0=runs/pack/teachers/tf_efficientnet_lite0_in1k.safetensors \
		--teacher timm:tf_efficientnet_lite1=runs/pack/teachers/tf_efficientnet_lite1_in1k.safetensors \
		--profile $(PROFILE) --steps $(STEPS) --batch-size $(BATCH) --crop $(CROP) --device $(DEVICE) \
		--out runs/gpu_$(PROFILE) || [ $$? = 124 ]  # stopped in time: its state is kept

runs/images: runs/pack/images.zip
	$(GPU_PYTHON) -m zipfile -e $< $@
	touch $@
