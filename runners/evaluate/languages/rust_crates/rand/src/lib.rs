//! The face of rand 0.4 over rand 0.8, as far as programs of the benchmark use it.
//!
//! The one change that matters is `gen_range`: two bounds then, a range now.

pub use current::rngs::{StdRng, ThreadRng};
pub use current::{distributions, prelude, random, rngs, seq, thread_rng, RngCore, SeedableRng};

use current::distributions::uniform::SampleUniform;
use current::distributions::{Distribution, Standard};

/// Random values of many types from any generator.
pub trait Rng: RngCore {
    /// A value of the type's usual distribution.
    fn gen<T>(&mut self) -> T
    where
        Standard: Distribution<T>,
        Self: Sized,
    {
        Standard.sample(self)
    }

    /// A value in `[low, high)`; panics unless `low < high`.
    fn gen_range<T: SampleUniform + PartialOrd>(&mut self, low: T, high: T) -> T
    where
        Self: Sized,
    {
        assert!(low < high, "Rng.gen_range called with low >= high");
        current::Rng::gen_range(self, low..high)
    }

    /// True once in `n` times.
    fn gen_weighted_bool(&mut self, n: u32) -> bool
    where
        Self: Sized,
    {
        n <= 1 || self.gen_range(0, n) == 0
    }

    /// One of the values; None when there is none.
    fn choose<'a, T>(&mut self, values: &'a [T]) -> Option<&'a T>
    where
        Self: Sized,
    {
        current::seq::SliceRandom::choose(values, self)
    }

    /// Puts the values in a random order.
    fn shuffle<T>(&mut self, values: &mut [T])
    where
        Self: Sized,
    {
        current::seq::SliceRandom::shuffle(values, self)
    }
}

impl<R: RngCore + ?Sized> Rng for R {}
