"""The command ``atoken``. Help needs no torch: every command imports what it needs when it runs."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from typer.core import TyperGroup

from .. import __version__
from . import interrupt, options
from .report import say, sentence

USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
"""Base of the errors about the command line itself; typer's own since it carries its own click, click's before."""


class Commands(TyperGroup):
    """All commands; what a user can cause ends in one sentence and exit code 2, a bug keeps its traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("always", module=r"atoken(\.|$)")
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except (BrokenPipeError, typer.Exit):  # the reader of stdout has gone: typer ends quietly
            raise
        except USAGE_ERROR as error:
            command = getattr(getattr(error, "ctx", None), "command_path", "atoken")
            reason = error.format_message()
            say(f"error: {reason.rstrip('.')}; {command} --help shows what there is")
            raise typer.Exit(2) from None
        except (KeyboardInterrupt, Exception) as error:
            if isinstance(error, KeyboardInterrupt) or interrupt.received():
                interrupt.announce()
                raise typer.Exit(interrupt.CODE) from None
            if not isinstance(error, ValueError | OSError):
                raise
            say(f"error: {sentence(error)}")
            raise typer.Exit(2) from None


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"warning: {message}")


app = typer.Typer(
    name="atoken",
    cls=Commands,
    help="Pictures, videos and 3D assets as tokens in one sparse 4D space, and back.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

data = typer.Typer(help="Prepare training data.", no_args_is_help=True)
app.add_typer(data, name="data")


def main() -> None:
    """The entry point of the command ``atoken``."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal cannot show is no failure
    interrupt.watch()
    app(prog_name="atoken")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"atoken {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None: ...


@app.command()
def encode(
    inputs: options.Sources,
    model: options.Model = "nano",
    kind: options.Kind = None,
    out: options.Out = Path("."),
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    token_budget: options.TokenBudget = None,
    tile: options.Tile = None,
    max_pixels: options.MaxPixels = None,
    max_side: options.MaxSide = None,
    background: options.Background = "255,255,255",
    fps: options.Fps = None,
    size: options.Size = None,
    start: options.Start = None,
    end: options.End = None,
    allow_partial: options.AllowPartial = False,
    views: options.ViewCount = 16,
    view_size: options.ViewSize = 256,
    fov: options.Fov = 40.0,
    patches: options.Patches = "visible",
    extent: options.Extent = "robust",
    light: options.Light = None,
    latents: options.Latents = "float16",
    overwrite: options.Overwrite = False,
) -> None:
    """Turn pictures, videos and 3D files into token files (.atok). Sound is not tokenised."""
    from ..media.views.views import ViewOptions
    from .pictures import Encode, Resampling, Settings, run

    resampling = Resampling(fps, options.parse_size(size), start, end, allow_partial)
    settings = Settings(
        *(model, out, device, dtype, token_budget, overwrite, kind, max_pixels, background, resampling),
        views=ViewOptions(views, view_size, fov, patches, options.parse_extent(extent), light),
        latents=latents,
        max_side=max_side,
        tile=tile,
    )
    run(Encode, inputs, settings)


@app.command()
def decode(
    inputs: options.TokenFiles,
    model: options.DecodeModel = None,
    out: options.Out = Path("."),
    image_format: options.Format = None,
    video_format: options.VideoFormat = None,
    lossless: options.Lossless = False,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    token_budget: options.TokenBudget = None,
    overwrite: options.Overwrite = False,
) -> None:
    """Turn token files (.atok) back into pictures, videos and splats."""
    from .pictures import Decode, Settings, run

    settings = Settings(
        *(model, out, device, dtype, token_budget, overwrite),
        image_format=image_format,
        video_format=video_format,
        lossless=lossless,
    )
    run(Decode, inputs, settings)


@app.command()
def reconstruct(
    inputs: options.Sources,
    model: options.Model = "nano",
    kind: options.Kind = None,
    out: options.Out = Path("."),
    image_format: options.Format = None,
    video_format: options.VideoFormat = None,
    lossless: options.Lossless = False,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    token_budget: options.TokenBudget = None,
    tile: options.Tile = None,
    max_pixels: options.MaxPixels = None,
    max_side: options.MaxSide = None,
    background: options.Background = "255,255,255",
    fps: options.Fps = None,
    size: options.Size = None,
    start: options.Start = None,
    end: options.End = None,
    allow_partial: options.AllowPartial = False,
    views: options.ViewCount = 16,
    view_size: options.ViewSize = 256,
    fov: options.Fov = 40.0,
    patches: options.Patches = "visible",
    extent: options.Extent = "robust",
    light: options.Light = None,
    keep_audio: options.KeepAudio = False,
    overwrite: options.Overwrite = False,
) -> None:
    """Encode pictures, videos and 3D files and decode them at once, into NAME.reconstructed.png or .mp4, and say how
    close they come.
    """
    from ..media.views.views import ViewOptions
    from .pictures import Reconstruct, Resampling, Settings, run

    resampling = Resampling(fps, options.parse_size(size), start, end, allow_partial)
    settings = Settings(
        *(model, out, device, dtype, token_budget, overwrite, kind, max_pixels, background, resampling),
        views=ViewOptions(views, view_size, fov, patches, options.parse_extent(extent), light),
        image_format=image_format,
        video_format=video_format,
        lossless=lossless,
        keep_audio=keep_audio,
        max_side=max_side,
        tile=tile,
    )
    run(Reconstruct, inputs, settings)


@app.command()
def generate(
    prompt: Annotated[
        str | None, typer.Argument(metavar="TEXT", show_default=False, help="What to draw, such as 'a red heart'.")
    ] = None,
    label: Annotated[
        str | None,
        typer.Option(metavar="NAME|N", show_default=False, help="In place of words: a class that the generator knows."),
    ] = None,
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The picture; of several, a sheet of all, beside NAME-1.png, ...")
    ] = Path("generated.png"),
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", show_default=False, help="Folder of a trained generator.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            show_default="the shipped model that the generator names",
            help="The tokenizer that it was trained with: a shipped model, a model folder or a checkpoint.",
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", metavar="N", help="Pictures.")] = 1,
    steps: Annotated[
        int | None, typer.Option(metavar="N", show_default="as the generator says", help="Steps from noise to picture.")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            show_default="as the generator says",
            help="How far the words are exaggerated; 1: not at all, and twice as fast.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="a random one", help="Of the first picture; the others count up."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            metavar="N|WxH", show_default="as the generator says", help="Pixels along the sides, multiples of 16."
        ),
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace pictures that are already there.")] = False,
) -> None:
    """Draw pictures from words, or from a label, with a trained generator."""
    from .generate import Request
    from .generate import generate as draw

    draw(Request(prompt, label, out, model, tokenizer, n, steps, guidance, seed, size, device, dtype, overwrite))


@app.command()
def info(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILES...",
            show_default=False,
            help="Token files, pictures, videos, 3D files, folders of them, model folders, released checkpoints, or "
            "names of shipped models.",
        ),
    ],
) -> None:
    """Say what a token file, a picture, a video, a 3D file, a model folder or a checkpoint is."""
    from .info import describe_all

    describe_all(files)


@app.command()
def tokenize(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCES...",
            show_default=False,
            help="Folders of pictures, videos and 3D files, lists of them (.txt), WebDataset shards (.tar), Parquet "
            "files and folders that the datasets library saved; folders may hold all of these.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", show_default=False, help="Folder for the token shards.")],
    model: options.Model = "nano",
    kind: options.Kind = None,
    size: Annotated[
        int | None,
        typer.Option(metavar="N", show_default="as they are", help="Scale and crop pictures and videos to N x N."),
    ] = None,
    fps: options.Fps = None,
    flip: Annotated[
        bool, typer.Option("--flip", help="Store each picture and video mirrored, too, under its key and '@flip'.")
    ] = False,
    embed: Annotated[bool, typer.Option("--embed", help="Store embeddings, too.")] = False,
    labels: Annotated[
        str, typer.Option(metavar="files|folders", help="Classes: from .cls and .json files, or from folders' names.")
    ] = "files",
    latents: options.Latents = "float16",
    per_shard: Annotated[int, typer.Option(metavar="N", help="Files or rows of a table in each shard.")] = 1000,
    workers: Annotated[
        int | None, typer.Option(metavar="N", show_default="one a processor or GPU", help="Processes.")
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    token_budget: options.TokenBudget = None,
) -> None:
    """Turn a whole data set into token shards; running it again goes on where it was cut off."""
    from ..codec import TOKEN_BUDGET
    from ..data.tokenize import Settings
    from .tokenize import tokenize as run_tokenize

    options.check_choice("--labels", labels, ("files", "folders"))
    settings = Settings(
        model, str(out), kind, size, fps, flip, embed, latents, dtype, device, token_budget or TOKEN_BUDGET
    )
    run_tokenize(sources, settings, per_shard, labels == "folders", workers)


@app.command()
def tokens(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUTS...",
            show_default=False,
            help="Token files (.atok), token shards (.atoks), folders of them and quoted patterns.",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE.atoks|DIR", show_default=False, help="One shard, or a folder for as many as need be."
        ),
    ],
    form: Annotated[
        str, typer.Option("--format", metavar="atoks|atok", help="atok: a token file for each sample.")
    ] = "atoks",
    keys: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", show_default="all", help="Only samples whose keys match, 'cats/*'; repeatable."
        ),
    ] = None,
    part: Annotated[
        str | None, typer.Option(metavar="A:B", show_default="all", help="Of these only A ... B - 1, counted from 0.")
    ] = None,
    per_shard: Annotated[int, typer.Option(metavar="N", help="Samples in each shard of a folder.")] = 10_000,
) -> None:
    """Gather token files into shards, merge shards, take parts of them, or take them apart."""
    from .tokens import convert as run_convert

    run_convert(inputs, out, form, keys or (), part, per_shard)


@app.command()
def export(
    shards: Annotated[
        list[Path],
        typer.Argument(metavar="SHARDS...", show_default=False, help="Token shards (.atoks) and folders of them."),
    ],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="NAME",
            show_default=False,
            help="lightningdit (gae), jlt, llamagen (unitok), rar, internlumina, trellis, webdataset or numpy.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", show_default=False, help="A new folder.")],
) -> None:
    """Write token shards as the files that other trainers read."""
    from .export import export as run_export

    run_export(shards, form, out)


@app.command()
def models() -> None:
    """List the model presets, and which of them come with weights."""
    from .info import list_presets

    list_presets()


@app.command()
def convert(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", show_default=False, help="A released .pt or .safetensors file.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", show_default=False, help="Folder of the new model.")],
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="continuous|discrete",
            help="Tokens that the weights were trained for, where the name of the file does not tell.",
        ),
    ] = None,
    dtype: Annotated[
        str | None,
        typer.Option(metavar=options.DTYPE_NAMES, show_default="as stored", help="Precision of the written weights."),
    ] = None,
    gaussians: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The released Gaussian decoder (3d_decode_gs.pt), which 3D needs."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a model that is already there.")] = False,
) -> None:
    """Turn a released checkpoint into a model folder (config.json and model.safetensors)."""
    from .convert import convert_checkpoint

    convert_checkpoint(checkpoint, out, kind, dtype, overwrite, gaussians)


@app.command()
def train(
    config: Annotated[
        list[Path],
        typer.Argument(
            metavar="CONFIG.yaml", show_default=False, help="Recipe of the run; several only with --dry-run."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", show_default=False, help="Folder for the log, the checkpoints and the trained model."
        ),
    ] = None,
    device: options.Device = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what the run takes and check its data, without training.")
    ] = False,
    utilisation: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of an H100's peak that the dry run reckons with.")
    ] = 0.4,
    cost_only: Annotated[
        bool, typer.Option("--cost-only", help="With --dry-run: neither look at the data nor time a step here.")
    ] = False,
    allow_commands: Annotated[
        bool,
        typer.Option(
            "--allow-commands",
            help="Let the recipe run programs for its shards (pipe:COMMAND, gs://, s3://) and import module:Class.",
        ),
    ] = False,
) -> None:
    """Train a model, continuing from the last checkpoint in the folder. Many ranks: torchrun -m atoken.cli train ..."""
    from .train import train_model

    train_model(config, out, device, utilisation if dry_run else None, cost_only, allow_commands)


@data.command()
def pack(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", show_default=False, help="Pictures, videos or packed voxels, with .txt.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", show_default=False, help="Folder for the shards.")],
    shard_size: Annotated[int, typer.Option(metavar="BYTES", help="Size of a shard, roughly.")] = 256_000_000,
    shards: Annotated[
        int | None,
        typer.Option(metavar="N", show_default=False, help="Number of shards, in place of their size."),
    ] = None,
) -> None:
    """Put the files below a folder, with their captions, into WebDataset shards for training."""
    from .data import pack_shards

    pack_shards(folder, out, shard_size, shards)


@app.command()
def bench(
    preset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            show_default="all but tiny",
            help="Preset, video, 3d or training; may be given several times.",
        ),
    ] = None,
    device: options.Device = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", show_default=False, help="Write all numbers to this file.")
    ] = None,
    against: Annotated[
        bool,
        typer.Option("--against", help="Only the networks, beside plain PyTorch, torch.compile and OpenVINO."),
    ] = False,
) -> None:
    """Measure speed and memory of the presets beside the machine's plain matrix products."""
    from .bench import bench_presets

    bench_presets(preset, device, json_file, against)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the page and the token files.")] = Path("demo"),
    model: options.Model = "nano",
    device: options.Device = None,
) -> None:
    """Reconstruct the bundled photographs and write a page that shows what AToken does."""
    from .demo import write_demo

    write_demo(out, model, device)


@app.command("eval")
def evaluate(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODELS...",
            show_default=False,
            help="Shipped models, model folders, released checkpoints, owner/name on the hub, or diffusers:FOLDER.",
        ),
    ],
    protocol: Annotated[
        str,
        typer.Option(
            metavar="paper-image|native|paper-video|video-256|paper-3d|zero-shot|retrieval", help="What is measured."
        ),
    ],
    data: Annotated[Path, typer.Option(metavar="PATH", show_default=False, help="Folder of the data set.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for results.json and report.html.")] = Path("eval"),
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="folder|classes|imagenet|coco|videos|msrvtt|msvd|assets|furniture",
            show_default="a folder",
            help="Of the data.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            show_default="all that need no download",
            help="psnr, ssim, lpips, rfid, rfvd, lite0-distance, lite0-frechet.",
        ),
    ] = None,
    kind: options.Kind = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            show_default="none",
            help="Codecs beside it: jpeg, webp, avif; for videos h.264, av1; for 3D voxels.",
        ),
    ] = None,
    rates: Annotated[
        str, typer.Option(metavar="X,Y,...", help="Bytes of the codecs, as multiples of the discrete tokens'.")
    ] = "1",
    linear: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default="none", help="Saved linear projection beside it.")
    ] = None,
    vgg16: Annotated[Path | None, typer.Option(metavar="FILE", show_default="none", help="VGG16 for lpips.")] = None,
    alexnet: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default="none", help="AlexNet for lpips, instead of VGG16.")
    ] = None,
    inception: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default="none", help="TorchScript Inception for rfid.")
    ] = None,
    i3d: Annotated[
        Path | None, typer.Option(metavar="FILE", show_default="none", help="TorchScript I3D for rfvd.")
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            show_default="the measured originals",
            help="Statistics for a Fréchet distance: reference.METRIC.safetensors of an earlier run; repeatable.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", show_default="all", help="Only the first N of the data.")
    ] = None,
    batch: Annotated[int, typer.Option(metavar="N", help="Pictures that go through a model together.")] = 16,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what other or finished runs left; an interrupted one goes on.")
    ] = False,
) -> None:
    """Measure models beside codecs: a table, results.json, and a report to open in a browser."""
    from ..evaluation.judges import NetworkFiles
    from .evaluate import Settings
    from .evaluate import evaluate as work

    files = NetworkFiles(vgg16, alexnet, inception, i3d)
    settings = Settings(
        protocol=protocol,
        data=data,
        out=out,
        layout=layout,
        metrics=metrics,
        kind=kind,
        against=against,
        rates=rates,
        linear=linear,
        files=files,
        reference=tuple(reference or ()),
        limit=limit,
        batch=batch,
        device=device,
        dtype=dtype,
        overwrite=overwrite,
    )
    work(models, settings)


@app.command("eval-generation")
def evaluate_generation(
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", show_default=False, help="Folder of a generator, or drawn pictures (.npz)."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", show_default=False, help="Samples, features and results.")],
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            show_default=False,
            help="Captioned pictures, as recipes/generation/draw_data.py makes them: drawn are the held-out captions.",
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|DIR",
            show_default=False,
            help="For labels: an .npz of real pictures (arr_0) or statistics (mu, sigma), or a folder of pictures.",
        ),
    ] = None,
    inception: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", show_default=False, help="Weights that torch-fidelity reads, for FID and its like."
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", show_default=False, help="Prompts, one a line, that no caption of --data holds."),
    ] = None,
    n: Annotated[
        int | None, typer.Option("--n", metavar="N", show_default="50000, or all held-out", help="Samples.")
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="N", show_default="as the generator says", help="Steps.")] = None,
    guidance: Annotated[
        float | None, typer.Option(metavar="X", show_default="as the generator says", help="Guidance; 1: none.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(metavar="X", show_default="as the generator says", help="Of masked generators.")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Of the first sample; the others count up.")] = 0,
    batch: Annotated[int, typer.Option(metavar="N", help="Pictures that are computed and kept together.")] = 64,
    tokenizer: Annotated[
        str | None, typer.Option(show_default="the shipped model that the generator names", help="Its tokenizer.")
    ] = None,
    device: options.Device = None,
    dtype: options.Dtype = "float32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace another run in --out.")] = False,
) -> None:
    """Measure a generator: draw samples and compare them with real pictures; interrupted, it goes on."""
    from .eval_generation import Request
    from .eval_generation import evaluate as work

    how = (steps, guidance, temperature, device, dtype, overwrite)
    work(Request(model, out, data, reference, inception, prompts, n, seed, batch, tokenizer, *how))


@app.command()
def classify(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUTS...", show_default=False, help="Files, folders and quoted patterns."),
    ],
    labels: Annotated[str, typer.Option(metavar="A,B,...", show_default=False, help="Labels to choose from.")],
    model: options.Model = "nano",
    device: options.Device = None,
    top: Annotated[int, typer.Option(metavar="N", help="Labels shown for each input.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Say which of some labels fit pictures, videos or 3D assets best."""
    from .zero_shot import classify as run_classify

    run_classify(inputs, labels, model, device, top, as_json)


@app.command()
def search(
    folder: Annotated[Path, typer.Argument(metavar="DIR", show_default=False, help="Folder to search, to the bottom.")],
    query: Annotated[
        str, typer.Argument(metavar="TEXT", show_default=False, help="What to look for; or a file, to find its like.")
    ],
    model: options.Model = "nano",
    device: options.Device = None,
    top: Annotated[int, typer.Option(metavar="N", help="Results shown.")] = 10,
    index: Annotated[
        Path | None, typer.Option(metavar="DIR", show_default="DIR/.atoken-index", help="Where the index is kept.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", show_default=False, help="Write a page with thumbnails.")
    ] = None,
) -> None:
    """Find what fits a text, or a file, in a folder; the index on disk makes the next search quick."""
    from .text_search import Search
    from .text_search import search as run_search

    run_search(Search(folder, query, model, device, top, index, page))
