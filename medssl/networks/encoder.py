"""What every encoder offers."""

from __future__ import annotations

from torch import Tensor, nn


class Encoder(nn.Module):
    """Turns an image into feature maps, finest first.

    An image is masked in one of two ways. With `visible` alone, masked positions are left out: that
    is what masked autoencoding wants, and encoders with `sparse` can do it. With `visible` and a
    `mask_token`, they stay, and hold the token instead of their patch's embedding: that is what
    SimMIM (Xie et al. 2022, sec. 3.2) wants, and encoders with a `token_width` can do it. For any
    other, convolutions that is, the caller sets masked voxels to a value.

    Attributes:
        dims: 2 or 3.
        in_channels: channels of the image.
        channels: channels of each feature map.
        strides: voxels of the image per voxel of each feature map, ascending. A map's size is
            ceil(image size / stride).
        local: whether a feature sees its neighbourhood only, so that a decoder must add context.
        sparse: whether it can leave masked positions out.
        token_width: channels of the mask token it takes; 0 where it takes none.
        layers: how many layers, one behind the other, its parameters belong to.
    """

    dims: int
    in_channels: int
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    local: bool = True
    sparse: bool = True
    token_width: int = 0
    layers: int = 1

    def layer_of(self, name: str) -> int:
        """Which layer a parameter belongs to, by its name in this module: 0 reads the image."""
        return 0

    def forward(
        self, x: Tensor, visible: Tensor | None = None, mask_token: Tensor | None = None
    ) -> list[Tensor]:
        """Feature maps [(B, channels[i], *ceil(spatial / strides[i]))].

        Args:
            x: (B, in_channels, *spatial). Masked voxels have no influence on the result.
            visible: bool (B, 1, *grid), True = visible. A cell is a whole number of the deepest
                map's voxels wide (with `mask_token`: of the finest map's), and the grid divides the
                image. Without `mask_token`, masked positions are zero in every map.
            mask_token: (token_width,), put where the image is masked; needs `visible`.

        Raises:
            ValueError: the shape of x or visible does not fit, or the encoder cannot mask so.
        """
        raise NotImplementedError

    def check(
        self, x: Tensor, visible: Tensor | None = None, mask_token: Tensor | None = None
    ) -> None:
        """Raises ValueError where x is not (B, in_channels, *spatial) with `dims` spatial axes, or
        where the encoder cannot mask as it is asked to."""
        if x.ndim != self.dims + 2 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"this encoder reads {self.dims}D images of {self.in_channels} channel(s), "
                f"(B, {self.in_channels}, *spatial), not {tuple(x.shape)}"
            )
        if mask_token is not None:
            if not self.token_width or visible is None:
                raise ValueError("a mask token needs an encoder of patches, and a mask")
            if tuple(mask_token.shape) != (self.token_width,):
                raise ValueError(
                    f"this encoder takes a mask token of ({self.token_width},), "
                    f"not {tuple(mask_token.shape)}"
                )
        elif visible is not None and not self.sparse:
            raise ValueError("this encoder cannot leave masked positions out; give a mask token")
