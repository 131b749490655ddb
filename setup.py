from setuptools import find_packages, setup

setup(
    name="detr_d2",
    version="0.1.0",
    description="DETR and panoptic DETR as a Detectron2 extension",
    packages=find_packages(include=["detr_d2", "detr_d2.*"]),
    package_data={  # the templates of the pages
        "detr_d2.evaluation": ["*.html"],
        "detr_d2.explain": ["*.html", "*.css", "*.js"],
    },
    python_requires=">=3.10",
    # Detectron2 and panopticapi have no release of their own on PyPI and come first: see the
    # README, or `make env`. `import detr_d2` says so where they are missing. OpenCV, for videos,
    # comes with Detectron2's drawing, in one of two packages; naming one could add it to the other.
    install_requires=[
        "torch>=2.5",  # torch.serialization.safe_globals
        "torchvision>=0.20",  # box operations; matches torch 2.5
        "fvcore>=0.1.5.post20221221,<0.2",  # Detectron2's own base
        "pycocotools>=2.0.6,<3",  # run-length masks for COCO's AP
        "safetensors>=0.4.3,<1",  # Hugging Face's weights, read without running anything
        "scipy>=1.10,<2",  # the Hungarian algorithm
        "pillow>=9.4,<14",  # images and panoptic PNGs
        "matplotlib>=3.6,<4",  # colour maps; Detectron2's drawing needs it as well
        "tqdm>=4.60,<5",  # progress of long work
    ],
    extras_require={
        "dev": [
            "pytest>=8,<9",
            "ruff==0.14.5",
            # An independent DETR, which the tests compare with; without it they are skipped.
            "transformers==5.23.0; python_version >= '3.11'",
            "timm==1.0.31; python_version >= '3.11'",  # its backbone for DC5
        ]
    },
)
