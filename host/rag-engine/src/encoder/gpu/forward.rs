//! One forward pass: texts in, the last layer's rows out, which `answers` makes into what was wanted.

use std::fmt;
use std::sync::Arc;

use rag_core::Result;

use super::params::{AddNorm, Attention, EmbedRows, Gelu, Norm};
use super::sizes::{TEXTS_MAX, TILE, WIDE_TILE};
use super::weights::{Layer, Vector, Weights};
use super::{Answer, Parts, Sizes, Text, Wish};
use crate::encoder::loaded::Pooling;
use crate::rwkv::cuda::{Blas, Element, Gemm, Gpu, Kernel, Memory, Operand, Shape};

/// Threads of a block that takes rows, a warp each, and how many rows these are.
pub(super) const ROW_THREADS: usize = 128;
pub(super) const ROWS_A_BLOCK: usize = 4;
/// Threads of a block of GELU, and elements that each takes.
const MAP_THREADS: usize = 256;
const MAP_ELEMENTS: usize = 8;
/// Blocks of `WIDE_TILE` queries that a multiprocessor runs at once.
const WIDE_RESIDENT: usize = 2;
/// Widest rows of the narrower kernels.
const NARROW_ROWS: usize = 1024;

/// A model on a GPU.
pub(in super::super) struct Forward {
    pub(super) gpu: Arc<Gpu>,
    pub(super) blas: Blas,
    pub(super) sizes: Sizes,
    pub(super) weights: Weights,
    pub(super) kernels: Kernels,
    pub(super) buffers: Buffers,
    pub(super) element: Element,
    pub(super) pooling: Pooling,
    eps: f32,
    /// Tokens of one pass.
    rows_max: usize,
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forward").field("gpu", &self.gpu).field("sizes", &self.sizes).finish_non_exhaustive()
    }
}

/// Looked up once.
#[derive(Debug)]
pub(super) struct Kernels {
    embed: Kernel,
    add_norm: Kernel,
    /// By the queries that a block takes: `TILE`, `WIDE_TILE`.
    attention: [Kernel; 2],
    gelu: Kernel,
    pub(super) pool: Kernel,
    pub(super) gather: Kernel,
    pub(super) directions: Kernel,
    pub(super) weigh_tokens: Kernel,
    pub(super) score: Kernel,
}

impl Kernels {
    fn load(gpu: &Gpu, sizes: &Sizes, element: Element) -> Result<Self> {
        let e = if element == Element::F32 { "f32" } else { "f16" };
        let columns = if sizes.width <= NARROW_ROWS { "1024" } else { "4096" };
        let attention = |queries: usize| match element {
            Element::F32 => gpu.kernel("attention_f32"),
            _ => gpu.kernel(&format!("attention{}_{queries}_f16", sizes.head())),
        };
        Ok(Kernels {
            embed: gpu.kernel(&format!("embed_{e}_{columns}"))?,
            add_norm: gpu.kernel(&format!("add_norm_{columns}"))?,
            attention: [attention(TILE)?, attention(WIDE_TILE)?],
            gelu: gpu.kernel(&format!("gelu_{e}"))?,
            pool: gpu.kernel("pool")?,
            gather: gpu.kernel(&format!("gather_{e}"))?,
            directions: gpu.kernel("directions")?,
            weigh_tokens: gpu.kernel("weigh_tokens")?,
            score: gpu.kernel("score")?,
        })
    }
}

/// What a pass works in; R are its rows, W is the width, I the inner layer's.
#[derive(Debug)]
pub(super) struct Buffers {
    /// The residual stream, [R, W] f32.
    pub(super) x: Memory,
    /// The same as elements of products; with f32 products none.
    copy: Option<Memory>,
    /// [R, 3W] elements; after the layers the rows that the multi-vector head maps.
    pub(super) qkv: Memory,
    /// [R, W] and [R, I] elements.
    context: Memory,
    inner: Memory,
    /// [texts, W] f32 each: vectors of texts, and the inner layer of the score's head.
    pub(super) pooled: Memory,
    pub(super) score_inner: Memory,
    /// [texts] f32.
    pub(super) scores: Memory,
    /// Of tokens: vectors that the head gave [R, token width] f32, then in 8 bits, their scales and weights.
    pub(super) mapped: Memory,
    pub(super) levels: Memory,
    pub(super) scales: Memory,
    pub(super) token_weights: Memory,
    /// What the host says of a pass.
    control: Memory,
}

impl Buffers {
    fn new(gpu: &Arc<Gpu>, sizes: &Sizes, element: Element, rows: usize) -> Result<Self> {
        let Sizes { width, inner, token_width, .. } = *sizes;
        let of = |columns: usize, bytes: usize| Memory::new(gpu, rows * columns * bytes);
        let e = element.bytes();
        Ok(Buffers {
            x: of(width, 4)?,
            copy: if element == Element::F32 { None } else { Some(of(width, e)?) },
            qkv: of(3 * width, e)?,
            context: of(width, e)?,
            inner: of(inner, e)?,
            pooled: Memory::new(gpu, TEXTS_MAX * width * 4)?,
            score_inner: Memory::new(gpu, TEXTS_MAX * width * 4)?,
            scores: Memory::new(gpu, TEXTS_MAX * 4)?,
            mapped: of(token_width, 4)?,
            levels: of(token_width, 1)?,
            scales: of(1, 4)?,
            token_weights: of(1, 4)?,
            control: Memory::new(gpu, (4 * rows + 2 * (rows / TILE) + 3 * TEXTS_MAX + 1) * 4)?,
        })
    }
}

/// What the host says of a pass, and where it stands in the control memory.
#[derive(Debug)]
pub(super) struct Control {
    values: Vec<i32>,
    pub(super) rows: usize,
    pub(super) texts: usize,
    tiles: usize,
    /// Queries of a tile.
    tile: usize,
    /// Rows whose vectors are wanted.
    pub(super) own: usize,
    offsets: [usize; 6],
}

/// Lists of the control memory, in the order in which they stand.
#[derive(Debug, Clone, Copy)]
pub(super) enum List {
    Ids,
    Places,
    Kinds,
    Starts,
    Tiles,
    Own,
}

impl Control {
    fn of(texts: &[Text<'_>], tile: usize) -> Self {
        let (mut ids, mut places, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        let (mut starts, mut tiles, mut own) = (vec![0], Vec::new(), Vec::new());
        for (index, text) in texts.iter().enumerate() {
            let start = ids.len();
            let length = text.ids.len();
            ids.extend(text.ids.iter().map(|&id| id as i32));
            places.extend(0..length as i32);
            kinds.extend((0..length).map(|place| i32::from(place >= text.second)));
            tiles.extend((0..length).step_by(tile).flat_map(|first| [index as i32, first as i32]));
            if let Wish::Tokens(range) = &text.wish {
                own.extend(range.clone().map(|place| (start + place) as i32));
            }
            starts.push(ids.len() as i32);
        }
        let (rows, tile_count, own_count) = (ids.len(), tiles.len() / 2, own.len());
        let (mut values, mut offsets) = (Vec::new(), [0; 6]);
        for (list, offset) in [ids, places, kinds, starts, tiles, own].into_iter().zip(&mut offsets) {
            *offset = values.len() * 4;
            values.extend(list);
        }
        Control { values, rows, texts: texts.len(), tiles: tile_count, tile, own: own_count, offsets }
    }
}

/// `out [rows, columns] = x [rows, inner] · weightsᵀ`, added to what is there where `add` says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) x: u64,
    pub(super) weights: &'a Memory,
    pub(super) out: u64,
    pub(super) size: [usize; 3],
    pub(super) add: bool,
    pub(super) element: Element,
    pub(super) out_element: Element,
}

impl Forward {
    pub(super) fn new(
        gpu: &Arc<Gpu>,
        parts: Parts<'_>,
        sizes: Sizes,
        element: Element,
        rows_max: usize,
    ) -> Result<Self> {
        Ok(Forward {
            blas: Blas::new(gpu)?,
            weights: Weights::load(gpu, parts, element)?,
            kernels: Kernels::load(gpu, &sizes, element)?,
            buffers: Buffers::new(gpu, &sizes, element, rows_max)?,
            gpu: gpu.clone(),
            sizes,
            element,
            pooling: parts.pooling,
            eps: parts.model.eps,
            rows_max,
        })
    }

    /// The GPU's name.
    pub(in super::super) fn name(&self) -> &str {
        &self.gpu.name
    }

    /// Runs the texts, in as many passes as they need, and answers each in their order.
    pub(in super::super) fn run(&mut self, texts: &[Text<'_>]) -> Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(texts.len());
        let mut rest = texts;
        while !rest.is_empty() {
            let mut rows = 0;
            let fits = |text: &&Text<'_>| {
                rows += text.ids.len();
                rows <= self.rows_max
            };
            let count = rest.iter().take(TEXTS_MAX).take_while(fits).count().max(1);
            let (now, after) = rest.split_at(count);
            let control = self.pass(now)?;
            self.answer(now, &control, &mut answers)?;
            rest = after;
        }
        Ok(answers)
    }

    /// Queues the layers; the last one's rows are in `buffers.x` then.
    pub(super) fn pass(&mut self, texts: &[Text<'_>]) -> Result<Control> {
        let control = Control::of(texts, self.tile(texts));
        assert!(control.rows <= self.rows_max, "a text longer than the model's positions");
        self.buffers.control.write(0, &control.values)?;
        self.embed(&control)?;
        for layer in &self.weights.layers {
            self.attend(layer, &control)?;
            self.feed_forward(layer, control.rows)?;
        }
        Ok(control)
    }

    /// Queries of a block of attention: many share what is loaded of the keys, where that leaves work for all of the GPU
    /// and few of them stand beyond a text's end.
    fn tile(&self, texts: &[Text<'_>]) -> usize {
        let tiles = |tile: usize| texts.iter().map(|text| text.ids.len().div_ceil(tile)).sum::<usize>();
        let (narrow, wide) = (tiles(TILE), tiles(WIDE_TILE));
        let busy = wide * self.sizes.heads >= self.gpu.multiprocessors * WIDE_RESIDENT;
        if self.element != Element::F32 && busy && narrow * 10 >= wide * 16 { WIDE_TILE } else { TILE }
    }

    pub(super) fn list(&self, control: &Control, list: List) -> u64 {
        self.buffers.control.at(control.offsets[list as usize])
    }

    fn embed(&self, control: &Control) -> Result<()> {
        let weights = &self.weights;
        let params = EmbedRows {
            norm: self.norm(weights.norm.at(0), control.rows),
            words: weights.words.at(0),
            positions: weights.positions.at(0),
            second: weights.second.as_ref().map_or(0, |second| second.at(0)),
            ids: self.list(control, List::Ids),
            places: self.list(control, List::Places),
            kinds: self.list(control, List::Kinds),
        };
        self.by_rows(self.kernels.embed, control.rows, &params)
    }

    fn attend(&self, layer: &Layer, control: &Control) -> Result<()> {
        let (width, rows, b) = (self.sizes.width, control.rows, &self.buffers);
        self.product(&self.layer_product(self.input(), &layer.qkv, &b.qkv, [rows, width, 3 * width]))?;
        let params = Attention {
            qkv: b.qkv.at(0),
            bias: layer.vector(Vector::QkvBias),
            context: b.context.at(0),
            starts: self.list(control, List::Starts),
            tiles: self.list(control, List::Tiles),
            width: width as i32,
            heads: self.sizes.heads as i32,
            scale: 1.0 / (self.sizes.head() as f32).sqrt(),
        };
        let kernel = self.kernels.attention[usize::from(control.tile == WIDE_TILE)];
        self.launch(kernel, [control.tiles, self.sizes.heads], ROW_THREADS, &params)?;
        self.to_residual(b.context.at(0), &layer.attention_out, [rows, width, width])?;
        self.add_norm(layer, [Vector::AttentionOutBias, Vector::AttentionNorm], rows)
    }

    fn feed_forward(&self, layer: &Layer, rows: usize) -> Result<()> {
        let (width, inner, b) = (self.sizes.width, self.sizes.inner, &self.buffers);
        self.product(&self.layer_product(self.input(), &layer.up, &b.inner, [rows, width, inner]))?;
        let params = Gelu {
            values: b.inner.at(0),
            bias: layer.vector(Vector::UpBias),
            count: (rows * inner) as i64,
            columns: inner as i32,
        };
        let blocks = (rows * inner).div_ceil(MAP_THREADS * MAP_ELEMENTS);
        self.launch(self.kernels.gelu, [blocks, 1], MAP_THREADS, &params)?;
        self.to_residual(b.inner.at(0), &layer.down, [rows, inner, width])?;
        self.add_norm(layer, [Vector::DownBias, Vector::OutputNorm], rows)
    }

    /// What products read of the residual stream.
    fn input(&self) -> u64 {
        self.buffers.copy.as_ref().unwrap_or(&self.buffers.x).at(0)
    }

    fn norm(&self, weight: u64, rows: usize) -> Norm {
        Norm {
            weight,
            bias: weight + self.sizes.width as u64 * 4,
            x: self.buffers.x.at(0),
            copy: self.buffers.copy.as_ref().map_or(0, |copy| copy.at(0)),
            rows: rows as i32,
            width: self.sizes.width as i32,
            eps: self.eps,
        }
    }

    fn add_norm(&self, layer: &Layer, [bias, norm]: [Vector; 2], rows: usize) -> Result<()> {
        let params = AddNorm { norm: self.norm(layer.vector(norm), rows), added: layer.vector(bias) };
        self.by_rows(self.kernels.add_norm, rows, &params)
    }

    fn layer_product<'a>(&self, x: u64, weights: &'a Memory, out: &Memory, size: [usize; 3]) -> Product<'a> {
        let element = self.element;
        Product { x, weights, out: out.at(0), size, add: false, element, out_element: element }
    }

    fn to_residual(&self, x: u64, weights: &Memory, size: [usize; 3]) -> Result<()> {
        let out = self.buffers.x.at(0);
        let (element, out_element) = (self.element, Element::F32);
        self.product(&Product { x, weights, out, size, add: true, element, out_element })
    }

    pub(super) fn product(&self, product: &Product<'_>) -> Result<()> {
        let [rows, inner, columns] = product.size;
        let operand = |at, row, turned| Operand { at, row, next: 0, turned };
        let gemm = Gemm {
            left: operand(product.x, inner, false),
            right: operand(product.weights.at(0), inner, true),
            out: operand(product.out, columns, false),
            rows,
            inner,
            columns,
            alpha: 1.0,
            beta: if product.add { 1.0 } else { 0.0 },
            element: product.element,
            out_element: product.out_element,
            count: 1,
        };
        // SAFETY: the buffers have room for `rows_max` rows of these sizes, and the matrix for its own; all live as
        // long as `self`, whose passes wait for their ends.
        unsafe { self.blas.multiply(&gemm) }
    }

    /// Queues a kernel that takes a row a warp.
    pub(super) fn by_rows<P>(&self, kernel: Kernel, rows: usize, params: &P) -> Result<()> {
        self.launch(kernel, [rows.div_ceil(ROWS_A_BLOCK), 1], ROW_THREADS, params)
    }

    pub(super) fn launch<P>(
        &self,
        kernel: Kernel,
        blocks: [usize; 2],
        threads: usize,
        params: &P,
    ) -> Result<()> {
        let shape = Shape { blocks, threads, shared: 0, overlap: false };
        // SAFETY: each kernel's structure is made beside its launch, of buffers as in `product`.
        unsafe { self.gpu.launch(kernel, shape, params) }
    }
}
