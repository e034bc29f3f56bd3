//! Runs the part of pickle that describes a dictionary of tensors, and nothing else.
//!
//! A pickle builds values on a stack; `GLOBAL` names a Python object and `REDUCE` calls it. Here a global is one of
//! the names in `global`, a call of it yields a description, and any other name or instruction ends the reading with
//! an error that says which. No value is ever more than data.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::{Dtype, TensorView};

/// Tuples within tuples: a tensor needs 3. The limit keeps recursion over values shallow.
const NESTING_MAX: u8 = 8;

/// Each value costs at least a byte of the pickle, whose size the caller limits.
#[derive(Debug, Clone)]
enum Value {
    Mark,
    None,
    Bool,
    Int(i64),
    Text(Rc<str>),
    /// Items, and how deep tuples nest in them.
    Tuple(Rc<[Value]>, u8),
    /// Place in `Machine::dicts`.
    Dict(usize),
    Global(Global),
    Storage(Rc<Storage>),
    Tensor(Rc<TensorView>),
    /// A tensor of whole numbers, such as a buffer of positions, which no weight is.
    OtherTensor,
}

/// The only Python objects that a checkpoint may name.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Global {
    RebuildTensor,
    RebuildParameter,
    OrderedDict,
    /// None for types other than floats.
    Storage(Option<Dtype>),
}

#[derive(Debug)]
struct Storage {
    key: Rc<str>,
    dtype: Option<Dtype>,
    len: usize,
}

/// The tensors of the dictionary that a pickle describes.
pub(super) fn tensors(program: &[u8]) -> Result<BTreeMap<String, TensorView>, String> {
    let mut machine = Machine { rest: program, stack: Vec::new(), memo: HashMap::new(), dicts: Vec::new() };
    let Value::Dict(root) = machine.run()? else {
        return Err("its pickle holds no dictionary of tensors".to_string());
    };
    let mut tensors = BTreeMap::new();
    for (key, value) in std::mem::take(&mut machine.dicts[root]) {
        match (key, value) {
            (Value::Text(name), Value::Tensor(view)) => {
                tensors.insert(name.to_string(), (*view).clone());
            }
            (Value::Text(_), Value::OtherTensor) => {}
            (Value::Text(name), _) => return Err(format!("its entry '{name}' is not a tensor")),
            _ => return Err("its dictionary has an entry without a name".to_string()),
        }
    }
    Ok(tensors)
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value>,
    memo: HashMap<u32, Value>,
    dicts: Vec<Vec<(Value, Value)>>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Value, String> {
        loop {
            let opcode = self.byte()?;
            match opcode {
                b'.' => return self.pop(),
                // PROTO and FRAME say how to read on.
                0x80 => {
                    self.byte()?;
                }
                0x95 => {
                    self.bytes(8)?;
                }
                b'(' | b'N' | 0x88 | 0x89 | b'K' | b'M' | b'J' | 0x8a | b'X' | 0x8c => {
                    self.push_scalar(opcode)?
                }
                b')' | 0x85 | 0x86 | 0x87 | b't' => self.push_tuple(opcode)?,
                b'}' => self.push_dict(),
                b'q' | b'r' | 0x94 | b'h' | b'j' => self.memoise(opcode)?,
                b's' | b'u' => self.set_items(opcode)?,
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.stack.push(Value::Global(global(&module, &name)?));
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let (Value::Text(module), Value::Text(name)) = (module, name) else {
                        return Err("a global without a name".to_string());
                    };
                    self.stack.push(Value::Global(global(&module, &name)?));
                }
                b'Q' => {
                    let id = self.pop()?;
                    let storage = storage(&id).ok_or("a storage is not described as PyTorch does it")?;
                    self.stack.push(Value::Storage(Rc::new(storage)));
                }
                b'R' => {
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    let value = self.call(&function, &arguments)?;
                    self.stack.push(value);
                }
                // BUILD: a state dictionary carries `_metadata`, which says nothing about tensors.
                b'b' => {
                    self.pop()?;
                    if !matches!(self.stack.last(), Some(Value::Dict(_))) {
                        return Err(
                            "its pickle sets attributes of something that is no dictionary".to_string()
                        );
                    }
                }
                other => {
                    return Err(format!("its pickle uses instruction {other:#04x}, which no tensor needs"));
                }
            }
        }
    }

    fn push_scalar(&mut self, opcode: u8) -> Result<(), String> {
        let value = match opcode {
            b'(' => Value::Mark,
            b'N' => Value::None,
            0x88 | 0x89 => Value::Bool,
            b'K' => Value::Int(i64::from(self.byte()?)),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.array()?))),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.array()?))),
            0x8a => {
                let len = usize::from(self.byte()?);
                let bytes = self.bytes(len)?;
                if len == 0 || len > 8 {
                    return Err("its pickle holds a number of over 64 bits".to_string());
                }
                let fill = if bytes[len - 1] & 0x80 == 0 { 0 } else { 0xff };
                let mut wide = [fill; 8];
                wide[..len].copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(wide))
            }
            _ => {
                let len = if opcode == b'X' {
                    u32::from_le_bytes(self.array()?) as usize
                } else {
                    usize::from(self.byte()?)
                };
                let text =
                    std::str::from_utf8(self.bytes(len)?).map_err(|_| "a name in its pickle is not UTF-8")?;
                Value::Text(text.into())
            }
        };
        self.stack.push(value);
        Ok(())
    }

    fn push_tuple(&mut self, opcode: u8) -> Result<(), String> {
        let items = match opcode {
            b')' => Vec::new(),
            b't' => self.pop_to_mark()?,
            // TUPLE1 to TUPLE3.
            _ => {
                let len = usize::from(opcode - 0x84);
                let at = self.stack.len().checked_sub(len).ok_or(UNDERFLOW)?;
                self.stack.split_off(at)
            }
        };
        let inner = items.iter().map(|item| if let Value::Tuple(_, depth) = item { *depth } else { 0 });
        let depth = inner.max().unwrap_or(0) + 1;
        if depth > NESTING_MAX {
            return Err("its pickle nests tuples too deep".to_string());
        }
        self.stack.push(Value::Tuple(items.into(), depth));
        Ok(())
    }

    fn push_dict(&mut self) {
        self.stack.push(Value::Dict(self.dicts.len()));
        self.dicts.push(Vec::new());
    }

    fn memoise(&mut self, opcode: u8) -> Result<(), String> {
        let index = match opcode {
            b'q' | b'h' => u32::from(self.byte()?),
            b'r' | b'j' => u32::from_le_bytes(self.array()?),
            _ => self.memo.len() as u32,
        };
        if opcode == b'h' || opcode == b'j' {
            let value = self.memo.get(&index).ok_or("its pickle recalls what it never stored")?;
            self.stack.push(value.clone());
        } else {
            self.memo.insert(index, self.stack.last().ok_or(UNDERFLOW)?.clone());
        }
        Ok(())
    }

    fn set_items(&mut self, opcode: u8) -> Result<(), String> {
        let items = if opcode == b'u' {
            self.pop_to_mark()?
        } else {
            let value = self.pop()?;
            vec![self.pop()?, value]
        };
        let Some(&Value::Dict(dict)) = self.stack.last() else {
            return Err("its pickle puts items into something that is no dictionary".to_string());
        };
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err("its pickle holds a name without a value".to_string());
        };
        self.dicts[dict].extend(pairs.iter().map(|[key, value]| (key.clone(), value.clone())));
        Ok(())
    }

    fn call(&mut self, function: &Value, arguments: &Value) -> Result<Value, String> {
        let (Value::Global(function), Value::Tuple(arguments, _)) = (function, arguments) else {
            return Err("its pickle calls something that is no function".to_string());
        };
        match (function, &arguments[..]) {
            (Global::OrderedDict, []) => {
                self.push_dict();
                self.pop()
            }
            (Global::RebuildParameter, [tensor @ (Value::Tensor(_) | Value::OtherTensor), ..]) => {
                Ok(tensor.clone())
            }
            (
                Global::RebuildTensor,
                [
                    Value::Storage(storage),
                    Value::Int(offset),
                    Value::Tuple(shape, _),
                    Value::Tuple(stride, _),
                    ..,
                ],
            ) => {
                let Some(dtype) = storage.dtype else { return Ok(Value::OtherTensor) };
                let view = TensorView {
                    storage: storage.key.to_string(),
                    dtype,
                    storage_len: storage.len,
                    offset: usize::try_from(*offset).map_err(|_| "a tensor's offset is negative")?,
                    shape: sizes(shape)?,
                    stride: sizes(stride)?,
                };
                Ok(Value::Tensor(Rc::new(view)))
            }
            (function, _) => Err(format!("its pickle calls {function:?} with arguments that it never has")),
        }
    }

    fn pop(&mut self) -> Result<Value, String> {
        self.stack.pop().ok_or_else(|| UNDERFLOW.to_string())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Value>, String> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark)).ok_or(UNDERFLOW)?;
        let items = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(items)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn bytes(&mut self, len: usize) -> Result<&[u8], String> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(CUT_SHORT)?;
        self.rest = rest;
        Ok(*head)
    }

    fn line(&mut self) -> Result<String, String> {
        let len = self.rest.iter().position(|&byte| byte == b'\n').ok_or(CUT_SHORT)?;
        let line = String::from_utf8_lossy(self.bytes(len)?).into_owned();
        self.byte()?;
        Ok(line)
    }
}

const UNDERFLOW: &str = "its pickle takes more values than it made";
const CUT_SHORT: &str = "its pickle is cut short";

fn global(module: &str, name: &str) -> Result<Global, String> {
    match (module, name) {
        ("torch._utils", "_rebuild_tensor_v2") => Ok(Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Ok(Global::RebuildParameter),
        ("collections", "OrderedDict") => Ok(Global::OrderedDict),
        ("torch", "FloatStorage") => Ok(Global::Storage(Some(Dtype::F32))),
        ("torch", "HalfStorage") => Ok(Global::Storage(Some(Dtype::F16))),
        ("torch", "BFloat16Storage") => Ok(Global::Storage(Some(Dtype::Bf16))),
        ("torch", "LongStorage" | "IntStorage" | "BoolStorage" | "ByteStorage") => Ok(Global::Storage(None)),
        _ => Err(format!("its pickle names {module}.{name}, which no float tensor needs: refused")),
    }
}

/// ("storage", class, key, device, elements)
fn storage(id: &Value) -> Option<Storage> {
    let Value::Tuple(parts, _) = id else { return None };
    let [Value::Text(kind), Value::Global(Global::Storage(dtype)), Value::Text(key), _, Value::Int(len)] =
        &parts[..]
    else {
        return None;
    };
    let len = usize::try_from(*len).ok()?;
    (&**kind == "storage").then(|| Storage { key: key.clone(), dtype: *dtype, len })
}

fn sizes(values: &[Value]) -> Result<Vec<usize>, String> {
    /// Enough for every tensor of a language model.
    const AXES_MAX: usize = 8;
    if values.len() > AXES_MAX {
        return Err(format!("a tensor of {} axes", values.len()));
    }
    values
        .iter()
        .map(|value| match value {
            Value::Int(size) => usize::try_from(*size).map_err(|_| "a tensor's size is negative".to_string()),
            _ => Err("a tensor's size is not a number".to_string()),
        })
        .collect()
}
