"""A figure with frames as a film: drawn by kaleido, encoded by imageio; both are optional."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from grokinterp.errors import GrokinterpError
from grokinterp.outputs import Kind, output
from grokinterp.plots.lazy import go

FILMS = {
    ".gif": Kind("a GIF", re.compile(rb"GIF8")),
    ".mp4": Kind("an MP4 film", re.compile(rb"....ftyp", re.DOTALL)),
}
SIZE = {"format": "png", "width": 800, "height": 600}  # pixels, which a film needs in even numbers
_REMEDY = "`pip install 'grokinterp[film]'`, with a Chrome or Chromium"


def film(figure: go.Figure, path: str | Path, *, seconds: float = 0.25, force: bool = False) -> Path:
    """Write the frames of a figure as a film.

    Args:
        figure: with frames, as `plots.by_step` makes them.
        path: the film, .gif or .mp4; a film of the same kind that stands there is replaced.
        seconds: that each frame is shown.
        force: replace a file of another kind, too.

    Raises:
        GrokinterpError: a figure without frames, another suffix, a duration that is not positive, no kaleido or imageio, nothing may be written
            there.
    """
    path = Path(path)
    if path.suffix not in FILMS:
        raise GrokinterpError(f"a film is a .gif or an .mp4; got {path.name!r}")
    if not figure.frames:
        raise GrokinterpError(
            f"the figure {figure.layout.title.text!r} has no frames: it shows all steps at once, or there is a single one, so analyse several steps"
        )
    if not seconds > 0:
        raise GrokinterpError(f"a film shows each frame for more than 0 seconds; got {seconds} seconds a frame")
    with output(path, FILMS[path.suffix], force=force) as temporary:
        temporary.write_bytes(_encoded(figure, path.suffix, seconds))
    return path


def stills(figure: go.Figure) -> Iterator[go.Figure]:
    """The figure at each of its frames, with the step in its title and without slider and buttons.

    Args:
        figure: with frames.
    """
    layout = {name: value for name, value in figure.layout.to_plotly_json().items() if name not in ("sliders", "updatemenus")}
    for frame in figure.frames:
        still = go.Figure(figure.data, layout=layout)
        for whole, own in zip(still.data, frame.data, strict=True):
            whole.update(own)
        yield still.update_layout(title_text=f"{figure.layout.title.text}, step {frame.name}", paper_bgcolor="white", plot_bgcolor="white")


def _encoded(figure: go.Figure, suffix: str, seconds: float) -> bytes:
    try:
        import imageio.v3 as imageio
        import kaleido

        kaleido.start_sync_server(silence_warnings=True)  # one browser for all frames
        try:
            drawn = [kaleido.calc_fig_sync(still.to_dict(), opts=SIZE) for still in stills(figure)]  # `to_image` warns of a server that runs
        finally:
            kaleido.stop_sync_server(silence_warnings=True)
        images = [imageio.imread(io.BytesIO(image), extension=".png")[..., :3] for image in drawn]
        of_gif, of_mp4 = {"duration": 1000 * seconds, "loop": 0}, {"fps": 1 / seconds, "codec": "libx264", "macro_block_size": 2}
        options: dict[str, Any] = of_gif if suffix == ".gif" else of_mp4
        film: bytes = imageio.imwrite("<bytes>", images, extension=suffix, **options)
    except (ImportError, RuntimeError, ValueError, OSError) as error:
        raise GrokinterpError(f"cannot draw a {suffix} ({error}); it needs {_REMEDY}") from error
    return film
