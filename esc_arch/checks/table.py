"""All options of an option file, as data: what a value must be, who reads it, what it does.

BasicSR 1.4.2 reads most of them and checks none. The check of values, the search for misspelt keys, docs/options.md and
docs/options.schema.json are all made from this table, so adding an option is one line in the section where it stands:

    "gradient_clip": Option(Number(0, above=True), "norm that gradients are cut to", ESC),

Then write the pages anew: `python -m esc_arch.checks.document`. A key that another project writes and that means
nothing here gets `ignored(...)` instead: one warning names all of these, and nothing is refused. A new section of a
loss or an optimizer is a name in `NAMES`.

Names of sections are paths, in which `*` stands for the names in `NAMES`: `train:optim_*`. `ARGUMENTS` are sections
whose further keys are arguments of a class or function, which its signature knows.
"""

from __future__ import annotations

from dataclasses import dataclass

from esc_arch.checks.kinds import (
    Anything,
    Choice,
    Each,
    Factor,
    Flag,
    FolderName,
    Kind,
    Map,
    Number,
    OneOf,
    PartOfName,
    Text,
    Whole,
)

BASICSR, ESC, SAMPLES = "BasicSR", "esc_arch", "the data set"
GAN_MODELS = ("SRGANModel", "ESRGANModel", "RealESRGANModel", "RealHATGANModel")
DEGRADING_MODELS = ("RealESRNetModel", "RealESRGANModel", "RealHATMSEModel", "RealHATGANModel")
ESC_MODELS = ("ESCModel", "ESCLTEModel", "ESRModel", "HATModel", "HITModel")
PARTS_MODELS = ("ESCModel", "ESRModel", "HATModel", "HITModel", "RealHATMSEModel", "RealHATGANModel")
TRAIN, TEST = "train", "test"


@dataclass(frozen=True)
class Option:
    """One option.

    Attributes:
        kind: what its value must be.
        about: what it does, for the page.
        reader: who reads it.
        only: the types (of data set or model) that read it; none for all.
        empty: `~` is a value of its own; otherwise `~` is as if the option were not there.
        needed: for which commands it must be there.
        fallback: what is used where it is not there, for the page.
        works: whether it has any effect.
        harmless: the value of an option without effect that asks for what happens anyway.
    """

    kind: Kind
    about: str
    reader: str = BASICSR
    only: tuple[str, ...] = ()
    empty: bool = False
    needed: tuple[str, ...] = ()
    fallback: str = ""
    works: bool = True
    harmless: object = None


def ignored(why: str, harmless: object = None, only: tuple[str, ...] = ()) -> Option:
    """An option of another project or an older BasicSR that has no effect here."""
    return Option(Anything(), why, "nobody", only=only, empty=True, works=False, harmless=harmless)


count, positive, share = Whole(0), Number(0, above=True), Number(0, 1)
weight = Number(0)
pair = Each(Number(0), 2, 2, rising=True)
betas = Each(Number(0, 1, below=True), 2, 2)
PAIRED = ("PairedImageDataset", "RealESRGANPairedDataset")
BLIND = ("RealESRGANDataset",)
SHRINKING = ("BicubicDataset", "DownsampleImageDataset", "ImageNetPairedDataset")
VIDEO = ("REDSDataset", "REDSRecurrentDataset", "Vimeo90KDataset", "Vimeo90KRecurrentDataset")
VIDEO_TEST = ("VideoTestDataset", "VideoTestVimeo90KDataset", "VideoTestDUFDataset", "VideoRecurrentTestDataset")
STYLE = ("StyleGAN2Model",)
RECURRENT = ("VideoRecurrentModel", "VideoRecurrentGANModel")
ROOTS = OneOf((Text("a path"), Each(Text("a path"))))
LISTS = OneOf((Text("a path"), Each(Text("a path"))))  # one for each root
TEMPLATES = OneOf((Text(), Each(Text())))
KERNELS = ("iso", "aniso", "generalized_iso", "generalized_aniso", "plateau_iso", "plateau_aniso")

SECTIONS: dict[str, dict[str, Option]] = {
    "": {
        "name": Option(FolderName(), "name of the experiment, and of its folder", needed=(TRAIN, TEST)),
        "model_type": Option(Text("the name of a model"), "what trains and tests the network", needed=(TRAIN, TEST)),
        "scale": Option(
            OneOf((Factor(1), Each(Factor(1), 2, 2, rising=True))),
            "factor of enlargement; for ESCLTE a range",
        ),
        "num_gpu": Option(
            OneOf((Choice(("auto",)), Whole(0))), "number of GPUs, 0 for the CPU, auto for all", needed=(TRAIN, TEST)
        ),
        "manual_seed": Option(Whole(0, 2**32 - 10**6), "seed of all random numbers", fallback="drawn"),
        "find_unused_parameters": Option(Flag(), "of DistributedDataParallel", fallback="false"),
        "amp": Option(Choice(("bf16", "fp16")), "mixed precision in training", ESC, fallback="none"),
        "compile": Option(Flag(), "torch.compile for training", ESC, fallback="false"),
        "use_amp": Option(Flag(), "the same as amp: fp16", ESC, ("ESRModel",), fallback="false"),
        "use_ema": Option(Flag(), "start from params_ema of the checkpoint", ESC, ("ESRModel",), fallback="false"),
        "save_img": ignored("of older releases of BasicSR; now in val"),
        "suffix": ignored("of older releases of BasicSR; now in val"),
        "crop_border": ignored("of older releases of BasicSR; now in val:metrics"),
        "gt_usm": Option(Flag(), "sharpen GT", only=("RealESRNetModel", "RealHATMSEModel")),
        "l1_gt_usm": Option(Flag(), "sharpen GT of the pixel loss", only=GAN_MODELS),
        "percep_gt_usm": Option(Flag(), "sharpen GT of the perceptual loss", only=GAN_MODELS),
        "gan_gt_usm": Option(Flag(), "sharpen GT of the GAN loss", only=GAN_MODELS),
        "high_order_degradation": Option(Flag(), "degrade GT while training", only=DEGRADING_MODELS, fallback="true"),
        "queue_size": Option(
            Whole(1),
            "pairs that batches are drawn from, a multiple of the batch",
            only=DEGRADING_MODELS,
            fallback="180",
        ),
        "gt_size": Option(Whole(1, 400), "side of a GT patch", only=DEGRADING_MODELS),
        **{
            f"{name}{turn}": option
            for turn, which in (("", "first"), ("2", "second"))
            for name, option in {
                "resize_prob": Option(Each(share, 3, 3), f"{which} pass: up, down, keep", only=DEGRADING_MODELS),
                "resize_range": Option(
                    Each(positive, 2, 2, rising=True), f"{which} pass: factors", only=DEGRADING_MODELS
                ),
                "gaussian_noise_prob": Option(share, f"{which} pass: rather than Poisson", only=DEGRADING_MODELS),
                "noise_range": Option(pair, f"{which} pass: sigma of Gaussian noise", only=DEGRADING_MODELS),
                "poisson_scale_range": Option(pair, f"{which} pass: of Poisson noise", only=DEGRADING_MODELS),
                "gray_noise_prob": Option(share, f"{which} pass: noise equal in all channels", only=DEGRADING_MODELS),
                "jpeg_range": Option(
                    Each(Number(1, 100), 2, 2, rising=True), f"{which} pass: qualities", only=DEGRADING_MODELS
                ),
            }.items()
        },
        "second_blur_prob": Option(share, "how often the second pass blurs", only=DEGRADING_MODELS),
    },
    "datasets:*": {
        "name": Option(FolderName(), "name of the data set, and of its folder of results", needed=(TRAIN, TEST)),
        "type": Option(Text("the name of a data set"), "what reads the images", needed=(TRAIN, TEST)),
        "dataroot_gt": Option(ROOTS, "folder, or .lmdb, of GT"),
        "dataroot_lq": Option(ROOTS, "folder, or .lmdb, of LQ"),
        "meta_info_file": Option(
            LISTS,
            "list of the images to take",
            SAMPLES,
            ("PairedImageDataset", "SingleImageDataset", *VIDEO, *VIDEO_TEST, *SHRINKING, *BLIND),
        ),
        "meta_info": Option(LISTS, "list of the images to take", SAMPLES, (*BLIND, "RealESRGANPairedDataset")),
        "filename_tmpl": Option(
            TEMPLATES, "name of LQ, with {} for that of GT", SAMPLES, (*PAIRED, *SHRINKING), fallback="{}"
        ),
        "color": Option(
            Choice(("rgb", "y")),
            "channels",
            SAMPLES,
            ("PairedImageDataset", "SingleImageDataset", "DownsampleImageDataset", "ImageNetPairedDataset"),
        ),
        "task": ignored("a note of HiT-SR's"),
        "mean": Option(Each(Number(), 3, 3), "taken off each channel", SAMPLES, empty=True),
        "std": Option(Each(positive, 3, 3), "each channel is divided by it", SAMPLES, empty=True),
        "scale": Option(
            OneOf((Factor(1), Each(Factor(1), 2, 2, rising=True))),
            "of this data set",
            SAMPLES,
            fallback="that of the file",
        ),
        "queries": Option(Whole(1), "pixels of GT that ESCLTE is trained on", ESC, ("BicubicDataset",)),
        "gt_size": Option(Whole(1), "side of a GT patch, a multiple of scale", SAMPLES),
        "use_hflip": Option(Flag(), "flip patches at random", SAMPLES),
        "use_rot": Option(Flag(), "turn patches at random", SAMPLES),
        "num_worker_per_gpu": Option(Whole(0), "processes that read, 0 for none of their own"),
        "batch_size_per_gpu": Option(Whole(1), "patches of a step"),
        "dataset_enlarge_ratio": Option(positive, "how often an epoch goes through the images", fallback="1"),
        "prefetch_mode": Option(Choice(("cpu", "cuda")), "read ahead, in a thread or onto the GPU", fallback="none"),
        "num_prefetch_queue": Option(Whole(1), "batches that prefetch_mode cpu reads ahead", fallback="1"),
        "pin_memory": Option(Flag(), "of DataLoader, for prefetch_mode cuda", fallback="false"),
        "persistent_workers": Option(Flag(), "of DataLoader", fallback="false"),
        "use_shuffle": ignored("training images are always shuffled", harmless=True),
        **{
            f"{name}{turn}": option
            for turn in ("", "2")
            for name, option in {
                "blur_kernel_size": Option(Whole(1), "not used by BasicSR, which draws 7 to 21", SAMPLES, BLIND),
                "kernel_list": Option(Each(Choice(KERNELS)), "kernels to draw from", SAMPLES, BLIND),
                "kernel_prob": Option(Each(share), "how often each is drawn", SAMPLES, BLIND),
                "sinc_prob": Option(share, "how often a sinc filter instead", SAMPLES, BLIND),
                "blur_sigma": Option(pair, "range of sigma", SAMPLES, BLIND),
                "betag_range": Option(pair, "of generalised Gaussians", SAMPLES, BLIND),
                "betap_range": Option(pair, "of plateaus", SAMPLES, BLIND),
            }.items()
        },
        "final_sinc_prob": Option(share, "how often a last sinc filter", SAMPLES, BLIND),
        "num_frame": Option(Whole(1), "frames of a sample", SAMPLES, (*VIDEO, *VIDEO_TEST)),
        "dataroot_flow": Option(Text("a path"), "folder of flows", SAMPLES, VIDEO, empty=True),
        "val_partition": Option(Text(), "clips left out of training", SAMPLES, VIDEO),
        "test_mode": Option(Flag(), "take the validation clips", SAMPLES, VIDEO),
        "interval_list": Option(Each(Whole(1)), "steps between frames", SAMPLES, VIDEO),
        "random_reverse": Option(Flag(), "backwards at random", SAMPLES, VIDEO),
        "flip_sequence": Option(Flag(), "append the frames backwards", SAMPLES, (*VIDEO, *VIDEO_TEST)),
        "cache_data": Option(Flag(), "keep frames in memory", SAMPLES, VIDEO_TEST),
        "padding": Option(
            Choice(("replicate", "reflection", "reflection_circle", "circle")), "beyond a clip", SAMPLES, VIDEO_TEST
        ),
        "use_duf_downsampling": Option(Flag(), "make LQ as DUF does", SAMPLES, VIDEO_TEST),
    },
    "datasets:*:io_backend": {
        "type": Option(Choice(("disk", "lmdb", "memcached")), "where images lie", needed=(TRAIN, TEST)),
        "readonly": Option(Flag(), "of lmdb.open"),
        "lock": Option(Flag(), "of lmdb.open"),
        "readahead": Option(Flag(), "of lmdb.open"),
        "server_list_cfg": Option(Text("a path"), "of memcached"),
        "client_cfg": Option(Text("a path"), "of memcached"),
        "sys_path": Option(Text("a path"), "of memcached"),
    },
    "path": {
        "pretrain_network_*": Option(Text("a path"), "checkpoint that the network starts from", empty=True),
        "param_key_*": Option(Text("the name of an entry"), "entry of the checkpoint", empty=True, fallback="params"),
        "strict_load_*": Option(Flag(), "the checkpoint must fit whole", fallback="true"),
        "resume_state": Option(Text("a path"), "training state to go on from", empty=True),
        "ignore_resume_networks": Option(
            OneOf((Text(), Each(Text()))), "networks that resuming does not load", empty=True
        ),
    },
    "train": {
        "total_iter": Option(Whole(1), "iterations to train", needed=(TRAIN,)),
        "warmup_iter": Option(Whole(-1), "iterations in which the rate rises, -1 for none", fallback="-1"),
        "ema_decay": Option(Number(0, 1, below=True), "of the average of the weights, 0 for none", fallback="0"),
        "ema_start": Option(Whole(0), "iteration up to which no weights are averaged", ESC, ESC_MODELS, fallback="0"),
        "gradient_clip": Option(positive, "norm that the gradient of all weights is cut to", ESC, ESC_MODELS),
        "accumulate": Option(
            Whole(1),
            "parts of a batch that go through the network one after the other; must divide batch_size_per_gpu",
            ESC,
            ESC_MODELS,
            fallback="1",
        ),
        "reset_momentum_iter": Option(
            Whole(1), "iterations after which Adam's momenta start anew, again and again", ESC, ("ESRModel",)
        ),
        "net_d_iters": Option(Whole(1), "train the generator every so many iterations", only=GAN_MODELS, fallback="1"),
        "net_d_init_iters": Option(
            Whole(0), "iterations in which the discriminator trains alone", only=GAN_MODELS, fallback="0"
        ),
        "tsa_iter": Option(Whole(0), "iterations that train TSA alone", only=("EDVRModel",)),
        "dcn_lr_mul": Option(weight, "factor of the rate of deformable convolutions", only=("EDVRModel",)),
        "flow_lr_mul": Option(weight, "factor of the rate of the flow network", only=RECURRENT),
        "lr_flow": Option(weight, "rate of the flow network", only=RECURRENT),
        "fix_flow": Option(Whole(0), "iterations with a fixed flow network", only=RECURRENT, empty=True),
        "mixing_prob": Option(share, "of styles", only=STYLE),
        "r1_reg_weight": Option(weight, "of the discriminator", only=STYLE),
        "path_reg_weight": Option(weight, "of the path length", only=STYLE),
        "path_batch_shrink": Option(Whole(1), "of the path length", only=STYLE),
        "net_g_reg_every": Option(Whole(1), "iterations between regularisations", only=STYLE),
        "net_d_reg_every": Option(Whole(1), "iterations between regularisations", only=STYLE),
    },
    "train:optim_*": {
        "type": Option(Text("the name of an optimizer"), "Adam, or another that the model knows", needed=(TRAIN,)),
        "lr": Option(weight, "learning rate", needed=(TRAIN,)),
        "betas": Option(betas, "of Adam and its kin"),
        "weight_decay": Option(weight, "decay of the weights"),
        "momentum": Option(weight, "of SGD and RMSprop"),
        "eps": Option(weight, "keeps denominators from zero"),
        "alpha": Option(Number(0), "of RMSprop and ASGD"),
        "dampening": Option(Number(0), "of SGD"),
        "nesterov": Option(Flag(), "of SGD"),
        "amsgrad": Option(Flag(), "of Adam"),
        "centered": Option(Flag(), "of RMSprop"),
    },
    "train:scheduler": {
        "type": Option(Text("the name of a schedule"), "MultiStepLR or CosineAnnealingRestartLR", needed=(TRAIN,)),
        "milestones": Option(Each(Whole(1), 0), "iterations after which the rate is multiplied by gamma"),
        "gamma": Option(positive, "factor of the rate at a milestone", fallback="0.1"),
        "restarts": Option(Each(count), "iterations at which the rate starts anew", fallback="[0]"),
        "restart_weights": Option(Each(positive), "factors of the rate at each start", fallback="[1]"),
        "periods": Option(Each(Whole(1)), "iterations of each cosine, total_iter together"),
        "eta_min": Option(weight, "rate at the end of a cosine", fallback="0"),
    },
    "train:*_opt": {
        "type": Option(Text("the name of a loss"), "which loss", needed=(TRAIN,)),
        "loss_weight": Option(Number(), "factor of the loss", fallback="1"),
        "reduction": Option(Choice(("mean", "sum")), "over the pixels", fallback="mean"),
        "eps": Option(positive, "of CharbonnierLoss", fallback="1e-12"),
        "layer_weights": Option(Map(Number()), "layers of VGG and their weights"),
        "vgg_type": Option(Text(), "which VGG", fallback="vgg19"),
        "use_input_norm": Option(Flag(), "normalise what VGG sees", fallback="true"),
        "range_norm": Option(Flag(), "from [-1, 1] to [0, 1] first", fallback="false"),
        "perceptual_weight": Option(weight, "of the perceptual part", fallback="1"),
        "style_weight": Option(weight, "of the style part", fallback="0"),
        "criterion": Option(Choice(("l1", "l2", "fro")), "how features are compared", fallback="l1"),
        "gan_type": Option(Choice(("vanilla", "lsgan", "wgan", "wgan_softplus", "hinge")), "which GAN loss"),
        "real_label_val": Option(Number(), "label of real images", fallback="1"),
        "fake_label_val": Option(Number(), "label of made images", fallback="0"),
        "start_ratio": Option(
            share, "part of the training after which mesa_opt counts", ESC, ("ESRModel",), fallback="0.33"
        ),
        "use_gp": Option(Flag(), "penalise the discriminator's gradient", ESC, ("RealHATGANModel",), fallback="false"),
        "gp_lambda": Option(weight, "factor of the penalty", ESC, ("RealHATGANModel",), fallback="10"),
    },
    "tile": {
        "tile_size": Option(
            Whole(1),
            "side of a tile in LQ pixels; with multiples of the window, as tile_pad, windows lie as in the whole image",
            ESC,
            PARTS_MODELS,
            needed=(TRAIN, TEST),
        ),
        "tile_pad": Option(
            Whole(0), "LQ pixels around a tile that are enlarged with it", ESC, PARTS_MODELS, needed=(TRAIN, TEST)
        ),
    },
    "val": {
        "val_freq": Option(Whole(1), "iterations between validations", needed=(TRAIN,)),
        "save_img": Option(Flag(), "write the images", fallback="false"),
        "suffix": Option(
            PartOfName(), "of the images' names in testing", empty=True, fallback="the name of the experiment"
        ),
        "pbar": Option(Flag(), "show a bar", fallback="false"),
        "use_chop": Option(Flag(), "enlarge in parts of 200 LQ pixels", ESC, PARTS_MODELS, fallback="false"),
        "center_frame_only": Option(Flag(), "of a clip", only=RECURRENT),
        "num_val_samples": Option(Whole(1), "samples to draw", only=STYLE),
        "flip_seq": Option(Flag(), "validate backwards too", only=RECURRENT),
    },
    "val:metrics:*": {
        "type": Option(Text("the name of a metric"), "which metric", needed=(TRAIN, TEST)),
        "better": Option(Choice(("higher", "lower")), "which of two is the best", fallback="higher"),
        "crop_border": Option(
            Whole(0), "pixels cut off on each side; ~ for that of the data set's scale (ESCLTEModel)", empty=True
        ),
        "test_y_channel": Option(Flag(), "compare Y of YCbCr", fallback="false"),
        "input_order": Option(Choice(("HWC", "CHW", "HW")), "of the array", fallback="HWC"),
        "convert_to": Option(Choice(("y", "gray")), "what NIQE looks at", fallback="y"),
        "metric": Option(Text(), "name in pyiqa, for calculate_pyiqa", ESC),
        "device": Option(Text(), "where calculate_pyiqa computes", ESC, fallback="cpu"),
    },
    "logger": {
        "print_freq": Option(Whole(1), "iterations between lines of the log", needed=(TRAIN,)),
        "save_checkpoint_freq": Option(Whole(1), "iterations between checkpoints", needed=(TRAIN,)),
        "use_tb_logger": Option(Flag(), "write for TensorBoard", needed=(TRAIN,)),
    },
    "logger:wandb": {
        "project": Option(Text(), "project of Weights & Biases, ~ for none", empty=True),
        "resume_id": Option(Text(), "run to go on with", empty=True),
    },
    "dist_params": {
        "backend": Option(Choice(("nccl", "gloo")), "of torch.distributed (launcher slurm)"),
        "port": Option(Whole(1, 65535), "where the processes meet (launcher slurm)"),
    },
    "network_*": {"type": Option(Text("the name of a network"), "which network", needed=(TRAIN, TEST))},
}

# what `*` may be; where a section is not named here, anything
NAMES = {
    "network_*": ("network_g", "network_d"),
    "train:optim_*": ("optim_g", "optim_d"),
    "train:*_opt": (
        "pixel_opt",
        "perceptual_opt",
        "gan_opt",
        "ldl_opt",
        "feature_matching_opt",
        "wave_opt",
        "mesa_opt",
    ),
    "pretrain_network_*": ("pretrain_network_g", "pretrain_network_d"),
    "param_key_*": ("param_key_g", "param_key_d"),
    "strict_load_*": ("strict_load_g", "strict_load_d"),
}

# models that read a loss; what is not named here, all do that train
LOSSES_OF = {
    "wave_opt": ("ESRModel",),
    "mesa_opt": ("ESRModel",),
    "gan_opt": (*GAN_MODELS, "HiFaceGANModel", "StyleGAN2Model"),
    "ldl_opt": GAN_MODELS,
    "feature_matching_opt": ("HiFaceGANModel",),
}

NEEDED_SECTIONS = {
    TRAIN: ("datasets", "datasets:train", "network_g", "path", "train", "train:optim_g", "train:scheduler", "logger"),
    TEST: ("datasets", "network_g", "path"),
}

# what training sets of these types read besides
NEEDED_IN_TRAINING = {
    "gt_size": (*PAIRED, *SHRINKING, *VIDEO),
    "use_hflip": (*PAIRED, *SHRINKING, *VIDEO, *BLIND, "FFHQDataset"),
    "use_rot": (*PAIRED, *SHRINKING, *VIDEO, *BLIND),
}

ARGUMENTS = ("train:optim_*", "train:scheduler", "train:*_opt", "val:metrics:*", "network_*")

# keys that earlier releases of BasicSR or its relatives read, and what they are called now
RENAMED = {
    "datasets:*": {
        "use_flip": "use_hflip",
        "batch_size": "batch_size_per_gpu",
        "n_workers": "num_worker_per_gpu",
        "GT_size": "gt_size",
        "dataroot_GT": "dataroot_gt",
        "dataroot_LQ": "dataroot_lq",
        "dataroot_HR": "dataroot_gt",
        "dataroot_LR": "dataroot_lq",
    },
    "path": {
        "pretrain_model_g": "pretrain_network_g",
        "pretrain_model_d": "pretrain_network_d",
        "pretrain_model_G": "pretrain_network_g",
        "strict_load": "strict_load_g",
    },
    "train": {"niter": "total_iter", "total_iters": "total_iter", "ema": "ema_decay"},
}

# what BasicSR's parser itself adds to the options
ADDED = {
    "": ("dist", "rank", "world_size", "auto_resume", "is_train", "root_path"),
    "datasets:*": ("phase",),
    "path": ("experiments_root", "models", "training_states", "log", "visualization", "results_root"),
}
