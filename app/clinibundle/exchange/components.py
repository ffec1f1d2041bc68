"""Which components a bundle may name by `_target_` without being trusted.

MONAI calls whatever `_target_` names, with the arguments that stand beside it; a short name is looked for in all of
MONAI, downloaders and shell helpers included. So these are listed one by one, and all else needs trust.
Left out of what MONAI has: what runs text or functions (Lambda), calls other libraries by name (TorchVision, TorchIO,
CuCIM), reads pickles (NumpyReader, PersistentDataset), sends to servers (MLFlow, ClearML) or downloads weights.
"""

from __future__ import annotations

import re
from functools import cache

from clinibundle.exchange.expressions import CLEAN, Judgement
from clinibundle.exchange.names import (
    DANGEROUS_ATTRIBUTES,
    DANGEROUS_BUILTINS,
    DANGEROUS_MODULES,
    DANGEROUS_WITHIN,
    is_within,
)
from clinibundle.exchange.own_python import OwnPython
from clinibundle.exchange.verdicts import Verdict

_LISTED = {
    "monai.transforms": """
        Activations Activationsd AddCoordinateChannels AddCoordinateChannelsd AddExtremePointsChannel
        AddExtremePointsChanneld AdjustContrast AdjustContrastd Affine AffineGrid Affined ApplyTransformToPoints
        ApplyTransformToPointsd AsChannelLast AsChannelLastd AsDiscrete AsDiscreted BatchInverseTransform
        BorderPad BorderPadd BoundingRect BoundingRectd CastToType CastToTyped CenterScaleCrop CenterScaleCropd
        CenterSpatialCrop CenterSpatialCropd ClassesToIndices ClassesToIndicesd ClipIntensityPercentiles
        ClipIntensityPercentilesd Compose ComputeHoVerMaps ComputeHoVerMapsd ConcatItemsd ConvertBoxToPoints
        ConvertBoxToPointsd ConvertPointsToBoxes ConvertPointsToBoxesd ConvertToMultiChannelBasedOnBratsClasses
        ConvertToMultiChannelBasedOnBratsClassesd CopyItemsd Crop CropForeground CropForegroundd Cropd CutMix
        CutMixd CutOut CutOutd DataStats DataStatsd Decollated DeleteItemsd DetectEnvelope DistanceTransformEDT
        DistanceTransformEDTd DivisiblePad DivisiblePadd Ensembled EnsureChannelFirst EnsureChannelFirstd
        EnsureType EnsureTyped FgBgToIndices FgBgToIndicesd FillHoles FillHolesd FlattenSequence
        FlattenSequenced FlattenSubKeysd Flip Flipd ForegroundMask ForegroundMaskd Fourier FromMetaTensord
        GaussianSharpen GaussianSharpend GaussianSmooth GaussianSmoothd GenerateHeatmap GenerateHeatmapd
        GibbsNoise GibbsNoised GridDistortion GridDistortiond GridPatch GridPatchd GridSplit GridSplitd
        HistogramNormalize HistogramNormalized Identity Identityd ImageFilter ImageFilterd IntensityRemap
        IntensityStatsd Invert Invertd KSpaceSpikeNoise KSpaceSpikeNoised KeepLargestConnectedComponent
        KeepLargestConnectedComponentd LabelFilter LabelFilterd LabelToContour LabelToContourd LabelToMask
        LabelToMaskd LoadImage LoadImaged MapLabelValue MapLabelValued MaskIntensity MaskIntensityd MeanEnsemble
        MeanEnsembled MedianSmooth MedianSmoothd MixUp MixUpd NormalizeIntensity NormalizeIntensityd OneOf
        Orientation Orientationd Pad PadListDataCollate Padd ProbNMS ProbNMSd Rand2DElastic Rand2DElasticd
        Rand3DElastic Rand3DElasticd RandAdjustContrast RandAdjustContrastd RandAffine RandAffineGrid
        RandAffined RandAxisFlip RandAxisFlipd RandBiasField RandBiasFieldd RandCoarseDropout RandCoarseDropoutd
        RandCoarseShuffle RandCoarseShuffled RandCoarseTransform RandCropByLabelClasses RandCropByLabelClassesd
        RandCropByPosNegLabel RandCropByPosNegLabeld RandCropd RandDeformGrid RandFlip RandFlipd
        RandGaussianNoise RandGaussianNoised RandGaussianSharpen RandGaussianSharpend RandGaussianSmooth
        RandGaussianSmoothd RandGibbsNoise RandGibbsNoised RandGridDistortion RandGridDistortiond RandGridPatch
        RandGridPatchd RandHistogramShift RandHistogramShiftd RandIdentity RandImageFilter RandImageFilterd
        RandIntensityRemap RandKSpaceSpikeNoise RandKSpaceSpikeNoised RandRicianNoise RandRicianNoised
        RandRotate RandRotate90 RandRotate90d RandRotated RandScaleCrop RandScaleCropd RandScaleIntensity
        RandScaleIntensityFixedMean RandScaleIntensityFixedMeand RandScaleIntensityd RandShiftIntensity
        RandShiftIntensityd RandSimulateLowResolution RandSimulateLowResolutiond RandSmoothDeform
        RandSmoothDeformd RandSmoothFieldAdjustContrast RandSmoothFieldAdjustContrastd
        RandSmoothFieldAdjustIntensity RandSmoothFieldAdjustIntensityd RandSpatialCrop RandSpatialCropSamples
        RandSpatialCropSamplesd RandSpatialCropd RandStdShiftIntensity RandStdShiftIntensityd RandWeightedCrop
        RandWeightedCropd RandZoom RandZoomd RandomOrder RemoveRepeatedChannel RemoveRepeatedChanneld
        RemoveSmallObjects RemoveSmallObjectsd RepeatChannel RepeatChanneld Resample ResampleToMatch
        ResampleToMatchd Resize ResizeWithPadOrCrop ResizeWithPadOrCropd Resized Rotate Rotate90 Rotate90d
        Rotated SaveClassificationd SaveImage SaveImaged SavitzkyGolaySmooth SavitzkyGolaySmoothd ScaleIntensity
        ScaleIntensityFixedMean ScaleIntensityRange ScaleIntensityRangePercentiles
        ScaleIntensityRangePercentilesd ScaleIntensityRanged ScaleIntensityd SelectItemsd ShiftIntensity
        ShiftIntensityd SignalContinuousWavelet SignalFillEmpty SignalFillEmptyd SignalRandAddGaussianNoise
        SignalRandAddSine SignalRandAddSinePartial SignalRandAddSquarePulse SignalRandAddSquarePulsePartial
        SignalRandDrop SignalRandScale SignalRandShift SignalRemoveFrequency SimulateDelay SimulateDelayd
        SmoothField SobelGradients SobelGradientsd SomeOf Spacing Spacingd SpatialCrop SpatialCropd SpatialPad
        SpatialPadd SpatialResample SpatialResampled SplitDim SplitDimd SqueezeDim SqueezeDimd StdShiftIntensity
        StdShiftIntensityd ThresholdIntensity ThresholdIntensityd ToCupy ToCupyd ToDevice ToDeviced
        ToMetaTensord ToNumpy ToNumpyd ToPIL ToPILd ToTensor ToTensord TransformPointsImageToWorldd
        TransformPointsWorldToImaged Transpose Transposed UltrasoundConfidenceMapTransform VoteEnsemble
        VoteEnsembled Zoom Zoomd
    """,
    "monai.networks.nets": """
        AHNet AttentionUnet AutoEncoder AutoencoderKL BasicUNet BasicUNetPlusPlus Classifier ControlNet Critic
        DAF3D DecoderOnlyTransformer DenseNet DenseNet121 DenseNet169 DenseNet201 DenseNet264 DiffusionModelUNet
        Discriminator DynUNet EfficientNet EfficientNetBN EfficientNetBNFeatures EfficientNetEncoder
        FlexibleUNet FullyConnectedNet Generator GlobalNet HighResBlock HighResNet HoVerNet HyenaNDUNETR
        LocalNet MaskedAutoEncoderViT MedNeXt MultiScalePatchDiscriminator NaViT PatchDiscriminator PatchMerging
        PatchMergingV2 Quicknat RegUNet Regressor ResNet ResNetBlock ResNetBottleneck ResNetEncoder
        ResNetFeatures SENet SENet154 SEResNet101 SEResNet152 SEResNet50 SEResNext101 SEResNext50
        SPADEAutoencoderKL SPADEDiffusionModelUNet SPADENet SegResNet SegResNetDS SegResNetDS2 SegResNetVAE
        SwinUNETR UNETR UNet VISTA3D VNet VQVAE VarAutoEncoder VarFullyConnectedNet ViT ViTAutoEnc VoxelMorph
        VoxelMorphUNet
    """,
    "monai.networks.blocks": """
        ADN ActiConvNormBlock BackboneWithFPN BaseEncoder CABlock CRF ChannelSELayer ConvDenseBlock Convolution
        CrossAttentionBlock DVF2DDF DenseBlock DepthwiseFFTConv2d DepthwiseFFTConv3d ExtraFPNBlock FCN
        FactorizedIncreaseBlock FactorizedReduceBlock FeaturePyramidNetwork FeedForward GCN GEGLU HyenaMixer
        HyenaTransformerBlock LastLevelMaxPool LastLevelP6P7 LocalNetDownSampleBlock
        LocalNetFeatureExtractorBlock LocalNetUpSampleBlock MCFCN MLPBlock MaxAvgPool MedNeXtBlock
        MedNeXtDownBlock MedNeXtOutBlock MedNeXtUpBlock MemoryEfficientSwish Mish P3DActiConvNormBlock
        PatchEmbed PatchEmbeddingBlock Refine RegistrationDownSampleBlock RegistrationExtractionBlock
        RegistrationResidualConvBlock ResBlock ResidualSELayer ResidualUnit SABlock SEBlock SEBottleneck
        SEResNeXtBottleneck SEResNetBottleneck SPADE SimpleASPP SpatialAttentionBlock SubpixelDownsample
        SubpixelUpsample Swish TransformerBlock UnetBasicBlock UnetOutBlock UnetResBlock UnetUpBlock
        UnetrBasicBlock UnetrPrUpBlock UnetrUpBlock Warp
    """,
    "monai.losses": """
        AUCMLoss AsymmetricUnifiedFocalLoss BarlowTwinsLoss BendingEnergyLoss BoundaryLoss BoxGIoULoss
        ContrastiveLoss DeepSupervisionLoss DiceCELoss DiceFocalLoss DiceLoss DiffusionLoss FocalLoss
        GeneralizedDiceFocalLoss GeneralizedDiceLoss GeneralizedWassersteinDiceLoss GlobalMutualInformationLoss
        HausdorffDTLoss JukeboxLoss LocalNormalizedCrossCorrelationLoss LogHausdorffDTLoss MCCLoss
        MaskedDiceLoss MaskedLoss MultiScaleLoss NACLLoss PatchAdversarialLoss SSIMLoss SURELoss
        SoftDiceclDiceLoss SoftclDiceLoss TverskyLoss
    """,
    "monai.metrics": """
        AbsoluteVolumeDifferenceMetric AveragePrecisionMetric CalibrationErrorMetric ConfusionMatrixMetric
        CumulativeAverage DiceHelper DiceMetric EmbeddingCollapseMetric FBetaScore FIDMetric
        GeneralizedDiceScore HausdorffDistanceMetric LabelQualityScore LossMetric MAEMetric MAPEMetric MMDMetric
        MSEMetric MeanIoU MultiScaleSSIMMetric PSNRMetric PanopticQualityMetric RMSEMetric ROCAUCMetric
        SSIMMetric SurfaceDiceMetric SurfaceDistanceMetric VarianceMetric
    """,
    "monai.inferers": """
        AvgMerger ControlNetDiffusionInferer ControlNetLatentDiffusionInferer DiffusionInferer
        LatentDiffusionInferer PatchInferer SaliencyInferer SimpleInferer SliceInferer SlidingWindowInferer
        SlidingWindowInfererAdapt SlidingWindowSplitter VQVAETransformerInferer
    """,
    "monai.handlers": """
        AveragePrecision CalibrationError CheckpointLoader CheckpointSaver ClassificationSaver ConfusionMatrix
        DecollateBatch EarlyStopHandler GarbageCollector HausdorffDistance IgniteMetricHandler LrScheduleHandler
        MeanAbsoluteError MeanDice MeanIoUHandler MeanSquaredError MetricsSaver PanopticQuality
        ParamSchedulerHandler PeakSignalToNoiseRatio PostProcessing ROCAUC RootMeanSquaredError
        SmartCacheHandler StatsHandler SurfaceDistance TensorBoardHandler TensorBoardImageHandler
        TensorBoardStatsHandler ValidationHandler
    """,
    "monai.optimizers": """
        ExponentialLR LearningRateFinder LinearLR Novograd WarmupCosineSchedule
    """,
    "monai.data": """
        CacheDataset DataLoader Dataset DistributedSampler DistributedWeightedRandomSampler GridPatchDataset
        ITKReader ITKWriter ImageDataset IterableDataset NibabelReader NibabelWriter NrrdReader PILReader
        PILWriter PatchDataset PatchIter PatchIterd PydicomReader SmartCacheDataset TestTimeAugmentation
        ThreadDataLoader ZipDataset
    """,
    "monai.engines": """
        AdversarialTrainer DiffusionPrepareBatch EnsembleEvaluator GanTrainer PrepareBatch PrepareBatchDefault
        PrepareBatchExtraInput SupervisedEvaluator SupervisedTrainer VPredictionPrepareBatch
    """,
    "torch.nn": """
        AvgPool2d AvgPool3d BatchNorm2d BatchNorm3d BCELoss BCEWithLogitsLoss Conv2d Conv3d ConvTranspose2d
        ConvTranspose3d CrossEntropyLoss Dropout Flatten GELU GroupNorm Identity InstanceNorm2d InstanceNorm3d L1Loss
        LayerNorm LeakyReLU Linear MaxPool2d MaxPool3d MSELoss NLLLoss PReLU ReLU Sequential Sigmoid SiLU
        SmoothL1Loss Softmax Tanh Upsample
    """,
    "torch.optim": "Adagrad Adam Adamax AdamW ASGD NAdam RAdam RMSprop SGD",
    "torch.optim.lr_scheduler": """
        ConstantLR CosineAnnealingLR CosineAnnealingWarmRestarts CyclicLR ExponentialLR LinearLR MultiStepLR OneCycleLR
        PolynomialLR ReduceLROnPlateau SequentialLR StepLR
    """,
    "torch.utils.data": """
        BatchSampler DataLoader RandomSampler SequentialSampler SubsetRandomSampler WeightedRandomSampler
    """,
    "torch": "device",
    "clinibundle.inferers.overlap_tile": "OverlapTileInferer",
    "clinibundle.losses.deep_supervision": "DeepSupervisionLoss",
    "clinibundle.losses.weighted_cross_entropy": "DiceWeightedCrossEntropyLoss WeightedCrossEntropyLoss",
    "clinibundle.networks.soft_vote": "SoftVote",
    "clinibundle.networks.unet2015": "UNet2015",
    "clinibundle.networks.views": "DihedralMean",
    "clinibundle.transforms.deform": "RandDeform2Dd",
    "clinibundle.transforms.instances": "CellsOfProbabilityd",
    "clinibundle.transforms.noise": "RandUniformNoised",
    "clinibundle.transforms.weight_map": "WeightMapd",
}
_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


@cache
def listed_components() -> dict[str, str]:
    """Every name that may stand behind `_target_`, and the full name of what it means."""
    names: dict[str, str] = {}
    for package, components in _LISTED.items():
        for component in components.split():
            names[f"{package}.{component}"] = f"{package}.{component}"
            if package.startswith("monai."):
                # MONAI finds its own by the last part alone; the first package that has it is meant.
                names.setdefault(component, f"{package}.{component}")
    for name, whole in list(names.items()):
        if whole.startswith("monai.transforms") and name.endswith("d") and name[:-1] in names:
            names |= {f"{name[:-1]}D": whole, f"{name[:-1]}Dict": whole}
    return names


def judge_target(target: object, own: OwnPython) -> Judgement:
    """The verdict on a `_target_`, and why.

    Args:
        target: as it stands in the config.
        own: the Python that the bundle brings along.
    """
    if not isinstance(target, str) or not _DOTTED.fullmatch(target):
        return Verdict.DANGEROUS, "a component that is not a plain name cannot be known before it is run"
    if target in listed_components():
        return CLEAN
    module, _, name = target.rpartition(".")
    if own.has_module(module):
        if own.defines(module, name):
            return CLEAN
        return Verdict.DANGEROUS, f"{module} of the bundle defines no {name}: it reaches for something else through it"
    first, *others = target.split(".")
    reached = {first, *others} & (DANGEROUS_ATTRIBUTES | DANGEROUS_BUILTINS) | set(others) & DANGEROUS_WITHIN
    if reached or is_within(target, DANGEROUS_MODULES | {"os", "sys", "io"}):
        return Verdict.DANGEROUS, f"{target} runs code or reaches files, the network or other programs"
    return Verdict.NEEDS_TRUST, f"{target} is not among the components that run without trust"
