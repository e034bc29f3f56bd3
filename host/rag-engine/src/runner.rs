//! Where a language model computes: on the CPU or on a GPU, behind the few calls that the worker makes.

#[cfg(feature = "cuda")]
use rag_core::Error;
use rag_core::Result;

use crate::rwkv::engine::ROWS_MAX;
use crate::rwkv::{AdapterId, AdapterScale, Config, Engine, Logits, Piece, State, Weights};
use crate::sampler::Drawing;

#[cfg(feature = "cuda")]
use crate::rwkv::cuda;

/// Prompt tokens that the CPU reads in one step while others write: some 20 ms of delay for them.
const PROMPT_PIECE_MAX: usize = 64;
/// The CPU's states are kept after each such number of prompt tokens, beside those at the prompt's and answer's end.
const KEEP_EVERY: usize = 256;
/// Likewise for a GPU, which reads long pieces faster and from which a copy of a state takes longer.
#[cfg(feature = "cuda")]
const GPU_PROMPT_PIECE_MAX: usize = 512;
#[cfg(feature = "cuda")]
const GPU_KEEP_EVERY: usize = 2048;

/// A model where it computes.
#[derive(Debug)]
pub enum Runner {
    Cpu(Box<Engine>),
    #[cfg(feature = "cuda")]
    Cuda(Box<cuda::Engine>),
}

impl From<Engine> for Runner {
    fn from(engine: Engine) -> Self {
        Runner::Cpu(Box::new(engine))
    }
}

/// The state of a sequence, where its model computes.
#[derive(Debug)]
pub(crate) enum Place {
    Host(State),
    #[cfg(feature = "cuda")]
    Device(cuda::DeviceState),
}

impl Place {
    /// Takes over a saved past.
    pub(crate) fn restore(&mut self, state: &State) -> Result<()> {
        match self {
            Place::Host(own) => own.copy_from(state),
            #[cfg(feature = "cuda")]
            Place::Device(own) => own.restore(state)?,
        }
        Ok(())
    }

    /// A copy to keep.
    pub(crate) fn snapshot(&self) -> Result<State> {
        match self {
            Place::Host(own) => Ok(own.clone()),
            #[cfg(feature = "cuda")]
            Place::Device(own) => own.snapshot(),
        }
    }
}

/// Tokens that continue one sequence.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    pub(crate) tokens: &'a [u32],
    pub(crate) place: &'a mut Place,
    pub(crate) logits: Logits,
    pub(crate) adapter: Option<AdapterId>,
    /// How the next token is drawn, where the runner draws.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "the CPU does not draw itself"))]
    pub(crate) draw: Option<Drawing>,
}

/// What a piece of work gave.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Told<'a> {
    Nothing,
    /// [vocabulary].
    Logits(&'a [f32]),
    /// [tokens, D].
    Rows(&'a [f32]),
    Token(u32),
}

impl Runner {
    pub fn config(&self) -> &Config {
        match self {
            Runner::Cpu(engine) => engine.config(),
            #[cfg(feature = "cuda")]
            Runner::Cuda(engine) => engine.config(),
        }
    }

    pub(crate) fn initial_state(&self) -> State {
        match self {
            Runner::Cpu(engine) => engine.initial_state(),
            #[cfg(feature = "cuda")]
            Runner::Cuda(engine) => engine.initial_state(),
        }
    }

    /// See `Engine::add_adapter`.
    pub(crate) fn add_adapter(
        &mut self,
        adapter: &dyn Weights,
        pissa_start: Option<&dyn Weights>,
        scale: AdapterScale,
    ) -> Result<AdapterId> {
        match self {
            Runner::Cpu(engine) => engine.add_adapter(adapter, pissa_start, scale),
            #[cfg(feature = "cuda")]
            Runner::Cuda(engine) => engine.add_adapter(adapter, pissa_start, scale),
        }
    }

    /// Tells which ids are never drawn.
    pub(crate) fn ban(&mut self, ids: &[u32]) -> Result<()> {
        match self {
            // Its sampler is told with every choice.
            Runner::Cpu(_) => {
                let _ = ids;
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Runner::Cuda(engine) => engine.ban(ids),
        }
    }

    /// A zero state. `Error::Unavailable` when there is no memory for it.
    pub(crate) fn place(&self) -> Result<Place> {
        match self {
            Runner::Cpu(engine) => Ok(Place::Host(State::zero(engine.config()))),
            #[cfg(feature = "cuda")]
            Runner::Cuda(engine) => engine.state().map(Place::Device),
        }
    }

    /// Tokens of one call.
    pub(crate) fn rows_max(&self) -> usize {
        match self {
            Runner::Cpu(_) => ROWS_MAX,
            #[cfg(feature = "cuda")]
            Runner::Cuda(engine) => engine.rows_max(),
        }
    }

    /// Sequences that run at once at most.
    pub(crate) fn slots_max(&self) -> usize {
        match self {
            Runner::Cpu(_) => ROWS_MAX / 2,
            #[cfg(feature = "cuda")]
            Runner::Cuda(engine) => engine.sequences_max(),
        }
    }

    /// Prompt tokens of one call while others write.
    pub(crate) fn prompt_piece_max(&self) -> usize {
        match self {
            Runner::Cpu(_) => PROMPT_PIECE_MAX,
            #[cfg(feature = "cuda")]
            Runner::Cuda(_) => GPU_PROMPT_PIECE_MAX,
        }
    }

    /// After how many tokens of a prompt a state is kept.
    pub(crate) fn keep_every(&self) -> usize {
        match self {
            Runner::Cpu(_) => KEEP_EVERY,
            #[cfg(feature = "cuda")]
            Runner::Cuda(_) => GPU_KEEP_EVERY,
        }
    }

    /// Whether it draws tokens itself, with so many penalties of all sequences together.
    pub(crate) fn draws(&self, penalties: usize) -> bool {
        match self {
            Runner::Cpu(_) => penalties == usize::MAX,
            #[cfg(feature = "cuda")]
            Runner::Cuda(engine) => engine.takes_penalties(penalties),
        }
    }

    /// Does the work; `results` then gives what came of it, in its order.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(clippy::infallible_destructuring_match, reason = "without a GPU there is one kind of place")
    )]
    pub(crate) fn run(&mut self, works: Vec<Work<'_>>) -> Result<()> {
        match self {
            Runner::Cpu(engine) => {
                let mut pieces = Vec::with_capacity(works.len());
                for Work { tokens, place, logits, adapter, .. } in works {
                    let state = match place {
                        Place::Host(state) => state,
                        #[cfg(feature = "cuda")]
                        Place::Device(_) => return Err(elsewhere()),
                    };
                    pieces.push(Piece { tokens, state, logits, adapter });
                }
                engine.forward(&mut pieces);
                Ok(())
            }
            #[cfg(feature = "cuda")]
            Runner::Cuda(engine) => {
                let mut pieces = Vec::with_capacity(works.len());
                for Work { tokens, place, logits, adapter, draw } in works {
                    let Place::Device(state) = place else { return Err(elsewhere()) };
                    pieces.push(cuda::Piece { tokens, state, logits, draw, adapter });
                }
                engine.forward(&mut pieces)
            }
        }
    }

    /// The last call's results.
    pub(crate) fn results(&self) -> Results<'_> {
        let config = self.config();
        let (vocabulary, width) = (config.vocabulary, config.width);
        let (logits, hidden, drawn) = match self {
            Runner::Cpu(engine) => (engine.logits(), engine.hidden(), [].as_slice()),
            #[cfg(feature = "cuda")]
            Runner::Cuda(engine) => (engine.logits(), engine.hidden(), engine.drawn()),
        };
        Results { logits, hidden, drawn, vocabulary, width }
    }
}

/// Results in the order of the work, taken one by one.
#[derive(Debug)]
pub(crate) struct Results<'a> {
    logits: &'a [f32],
    hidden: &'a [f32],
    drawn: &'a [u32],
    vocabulary: usize,
    width: usize,
}

impl<'a> Results<'a> {
    /// What the next piece, of `len` tokens, has to tell.
    pub(crate) fn next(&mut self, logits: Logits, len: usize, drawn: bool) -> Told<'a> {
        let told = match logits {
            Logits::Last if drawn => self.drawn.split_off_first().map(|&token| Told::Token(token)),
            Logits::Last => self.logits.split_off(..self.vocabulary).map(Told::Logits),
            Logits::Hidden => self.hidden.split_off(..len * self.width).map(Told::Rows),
            Logits::None | Logits::All => None,
        };
        told.unwrap_or(Told::Nothing)
    }
}

#[cfg(feature = "cuda")]
fn elsewhere() -> Error {
    Error::Unavailable { message: "a state of another device".to_string() }
}
