//! The trainer on the processor: RWKV-6 forwards and, by hand, backwards.

pub(crate) mod attach;
mod channel_mix;
pub(crate) mod frozen;
pub(crate) mod head;
pub(crate) mod linalg;
pub(crate) mod linear;
pub(crate) mod load;
pub(crate) mod model;
pub(crate) mod norm;
pub(crate) mod shift;
mod svd;
pub(crate) mod tensors;
mod time_mix;
mod wkv;
