//! Params of the gradient's norm and of the optimisers, and the structs that these read from buffers.

use super::{Layout, Params};
use crate::extents::end;
use crate::{Extents, KernelVariant, MAX_PIECE_LEN};

params! {
    /// The parts of the gradient's norm; see `optim/gradient_norm.wgsl`.
    GradientNorm {
        /// Pieces.
        pieces: u32,
        /// Workgroups along x.
        groups_x: u32,
        /// The first partial to write.
        first: u32,
        /// The largest element allowed, 0 for any.
        clip_value: f32,
    }

    /// The gradient's norm; see `optim/finish_norm.wgsl`.
    FinishNorm {
        /// Partials.
        partials: u32,
        /// The largest norm allowed, 0 for any.
        clip: f32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }

    /// Stochastic gradient descent; see `optim/sgd.wgsl`.
    Sgd {
        /// Pieces.
        pieces: u32,
        /// Workgroups along x.
        groups_x: u32,
        /// 1 for Nesterov's momentum.
        nesterov: u32,
        /// Share of the old momentum that stays.
        momentum: f32,
        /// 1 to note whether the update overflows, 0 to write it.
        trial: u32,
        /// Blocks of [`OVERFLOW_BLOCK`](crate::OVERFLOW_BLOCK) elements in the buffers before this one.
        first_block: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }

    /// Adam and AdamW; see `optim/adam.wgsl`.
    Adam {
        /// Pieces.
        pieces: u32,
        /// Workgroups along x.
        groups_x: u32,
        /// Share of the old first moment that stays.
        beta1: f32,
        /// Share of the old second moment that stays.
        beta2: f32,
        /// Added to the denominator.
        epsilon: f32,
        /// 1 to note whether the update overflows, 0 to write it.
        trial: u32,
        /// Blocks of [`OVERFLOW_BLOCK`](crate::OVERFLOW_BLOCK) elements in the buffers before this one.
        first_block: u32,
        #[doc(hidden)]
        _pad: u32,
    }

    /// RMSprop; see `optim/rmsprop.wgsl`.
    RmsProp {
        /// Pieces.
        pieces: u32,
        /// Workgroups along x.
        groups_x: u32,
        /// Share of the old moments that stays.
        alpha: f32,
        /// Added to the denominator.
        epsilon: f32,
        /// Share of the old momentum that stays.
        momentum: f32,
        /// 1 to note whether the update overflows, 0 to write it.
        trial: u32,
        /// Blocks of [`OVERFLOW_BLOCK`](crate::OVERFLOW_BLOCK) elements in the buffers before this one.
        first_block: u32,
        #[doc(hidden)]
        _pad: u32,
    }

    /// The moving average of the parameters; see `optim/average.wgsl`.
    Average {
        /// Pieces.
        pieces: u32,
        /// Workgroups along x.
        groups_x: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }

    /// Values that the host sets before every update; see `optim/status.wgsl`.
    Hyper {
        /// The update, from 1.
        step: u32,
        /// The learning rate.
        learning_rate: f32,
        /// `1 - beta1^step`
        correction1: f32,
        /// `1 - beta2^step`
        correction2: f32,
        /// The largest element of the gradient, 0 for any.
        clip_value: f32,
        /// The weight of the new parameters in their moving average.
        average_weight: f32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }

    /// State that the device keeps across updates; see `optim/status.wgsl`.
    Status {
        /// The first update whose gradient was not finite, or 0.
        failed_step: u32,
        /// The layer nearest the loss whose gradient was not finite then.
        failed_layer: u32,
        /// The norm of the last gradient.
        norm: f32,
        /// The factor by which clipping shrank it.
        scale: f32,
        /// The first update that would have left a parameter or a moment infinite or NaN, or 0.
        overflow_step: u32,
        /// The last block of such elements then, counted through all buffers of parameters.
        overflow_block: u32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
    }

    /// A stretch of the gradient within one parameter, and that parameter's settings; see `optim/piece.wgsl`.
    Piece {
        /// Its first element in the buffers of gradients, values and moments.
        offset: u32,
        /// Its elements, at most [`MAX_PIECE_LEN`].
        len: u32,
        /// Its layer.
        layer: u32,
        /// Factor on the learning rate.
        rate_factor: f32,
        /// Weight decay.
        decay: f32,
        #[doc(hidden)]
        _pad0: u32,
        #[doc(hidden)]
        _pad1: u32,
        #[doc(hidden)]
        _pad2: u32,
    }
}

/// Elements of a struct that an optimiser reads from a buffer.
const fn len_of<T: Layout>() -> u64 {
    size_of::<T>() as u64 / 4
}

/// Halvings of a workgroup until one invocation is left, and the walks of an invocation over a piece.
fn halvings_and_walks(kernel: &KernelVariant, walks: u64) -> u64 {
    let size = kernel.constant("WG_SIZE");
    u64::from(size.ilog2()) + walks * u64::from(MAX_PIECE_LEN.div_ceil(size))
}

impl Params for GradientNorm {
    /// The pieces lie in a buffer, so their reach is not known here: the kernel bounds itself by the length of the
    /// gradients.
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let pieces = u64::from(self.pieces);
        Extents {
            lens: vec![pieces * len_of::<Piece>(), pieces.min(1), 4 * end(self.first, pieces)],
            iterations: halvings_and_walks(kernel, 2),
        }
    }
}

impl Params for FinishNorm {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let size = kernel.constant("WG_SIZE");
        Extents {
            lens: vec![4 * u64::from(self.partials), len_of::<Hyper>(), len_of::<Status>()],
            iterations: u64::from(self.partials.div_ceil(size) + size.ilog2()),
        }
    }
}

/// The reach of an update: the pieces lie in a buffer, and the kernel bounds itself by the lengths of the others, of which
/// there are as many as flags here, in order; those without a flag are left alone.
fn of_update(kernel: &KernelVariant, pieces: u32, touched: &[bool]) -> Extents {
    let pieces = u64::from(pieces);
    let others = touched.iter().map(|&touched| if touched { pieces.min(1) } else { 0 });
    Extents {
        lens: [len_of::<Hyper>(), pieces * len_of::<Piece>(), len_of::<Status>()]
            .into_iter()
            .chain(others)
            .collect(),
        iterations: u64::from(MAX_PIECE_LEN.div_ceil(kernel.constant("WG_SIZE"))),
    }
}

impl Params for Sgd {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        of_update(kernel, self.pieces, &[true, true, self.momentum > 0.0])
    }
}

impl Params for Adam {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        of_update(kernel, self.pieces, &[true; 4])
    }
}

impl Params for Average {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        of_update(kernel, self.pieces, &[true; 2])
    }
}

impl Params for RmsProp {
    fn extents(&self, kernel: &KernelVariant, _: [u32; 3]) -> Extents {
        let centered = kernel.constant("CENTERED") == 1;
        of_update(kernel, self.pieces, &[true, true, true, centered, self.momentum > 0.0])
    }
}
