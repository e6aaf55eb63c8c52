"""The experiment with both protocols."""

from __future__ import annotations

from experiments.published.layerwise_features.cases import (
    DIVISOR,
    GREY_EPOCHS,
    REDUCED,
    full_cases,
    reduced_cases,
)
from experiments.published.layerwise_features.networks import LEAST_REDUCED, VGG_A, VGG_D
from experiments.published.layerwise_features.page import page
from experiments.reproduction.records import Experiment, Protocol, Publication

_DEVIATIONS = (
    "Added to the published grid: the uniform network and the wide pyramid, which has the shape of "
    "the pyramid and the multiply-accumulates of a broad early-heavy network.",
    "SGD uses Nesterov momentum. Weight decay applies to convolutions and linear layers only. "
    "Batch norms use an epsilon of 0.00001 instead of 0.0001.",
    "Dropout follows both hidden layers instead of the last one.",
    "MNIST and Fashion-MNIST have one channel instead of three equal ones.",
)

_CONSTANT_TOTAL = (
    "At a constant total of features, early-heavy networks have more parameters and many more "
    "multiply-accumulates than the pyramid, because early feature maps are large. The publication "
    "compares at a constant total; the wide pyramid shows what the same computation reaches in the "
    "usual shape."
)

EXPERIMENT = Experiment(
    name="layerwise_features",
    title="Feature amounts over the depth of a VGG",
    publication=Publication(
        "Mundt, Majumder, Weis & Ramesh",
        2018,
        "Rethinking Layer-wise Feature Amounts in Convolutional Neural Network Architectures",
        "1812.05836",
    ),
    question="A VGG has a constant total of features. Do many features in early layers classify as "
    "well as the usual pyramid, which has many features in late layers, and overfit less?",
    protocols={
        "full": Protocol(
            description=(
                "CIFAR-10, Fashion-MNIST and MNIST at 32 pixels, all images. VGG-D "
                f"({VGG_D.layers} layers before the classifier, {VGG_D.total:,} features) and "
                f"VGG-A ({VGG_A.layers} layers, {VGG_A.total:,} features), with each valid "
                "skew-normal distribution of the published grid.",
                "150 epochs of SGD with warm restarts after epochs 10, 30 and 70, learning rate "
                "0.01 to 0.00001, batch size 128, weight decay 0.0005, dropout 0.5. CIFAR-10 with "
                "random crops (padding 4) and flips. A training stops after "
                "epoch 10 if its training accuracy is below 20 %.",
            ),
            deviations=(
                *_DEVIATIONS,
                "Crops move the image by up to an eighth of its side instead of a tenth.",
                "One seed per network: give more time to few networks for a spread over seeds.",
            ),
            differences=(
                _CONSTANT_TOTAL,
                "Training accuracy is measured during the last epoch. Augmentation and dropout "
                "lower it.",
            ),
            cases=full_cases,
            seeds=1,
        ),
        "reduced": Protocol(
            description=(
                "CIFAR-10 at 16 pixels, 5,000 training and 5,000 test images; MNIST at 16 pixels, "
                "2,000 training and 5,000 test images. 12 distributions of VGG-D, 7 of VGG-A, and "
                "the pyramid.",
                f"{REDUCED.epochs} epochs of SGD ({GREY_EPOCHS} on MNIST) with a one-cycle "
                "schedule, peak learning rate 0.05, batch size 32, weight decay 0.0005, no "
                "dropout. CIFAR-10 with random flips.",
            ),
            deviations=(
                f"Reduced: feature amounts are divided by {DIVISOR}, and no layer gets fewer than "
                f"{LEAST_REDUCED} features if it had as many. A few distributions that span the "
                "valid ones, VGG-A on CIFAR-10 only, no Fashion-MNIST. Smaller and fewer images, "
                "fewer epochs, another schedule, no shifts, no dropout.",
                "The second pooling layer is left out, because an image of 16 pixels has no size "
                "for five. All later layers see feature maps of the published size.",
                *(each for each in _DEVIATIONS if not each.startswith("Dropout")),
            ),
            differences=(
                _CONSTANT_TOTAL,
                "Few epochs on few images favour networks that learn fast. The publication trains "
                "150 epochs on all images.",
                "A narrow layer limits a network more, the narrower all layers are. The pyramid "
                f"begins with {VGG_D.pyramid[0] // DIVISOR} features instead of "
                f"{VGG_D.pyramid[0]}, and early-heavy networks end in as few features as the "
                "published ones.",
                "Training accuracy is measured during the last epoch. Augmentation lowers it.",
            ),
            cases=reduced_cases,
            seeds=3,
            minutes=48,
        ),
    },
    page=page,
)
