"""Classification of images in memory: the pipeline's stages, without a dataset or a store."""

from pipeline.classifier.classifier import Classifier

__all__ = ["Classifier"]
