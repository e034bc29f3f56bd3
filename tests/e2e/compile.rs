//! Components that are made to be hard to compile: refused with the bound that they break, and the host answers meanwhile.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use reqwest::Method;
use serde_json::json;

use crate::host::{Data, answer, binary, fixture, root};

/// A number as WebAssembly's binary format writes it.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}

fn section(id: u8, content: &[u8]) -> Vec<u8> {
    [vec![id], leb(content.len()), content.to_vec()].concat()
}

/// A valid component with one module of `functions` functions, each of `bytes` of arithmetic on many values at once.
fn bomb(functions: usize, bytes: usize) -> Vec<u8> {
    // (local.set 0 (i32.mul (local.get 0) (local.get 1))), with another pair of locals each time.
    let mut code = leb(1);
    code.extend([100, 0x7f]);
    let mut n = 0_u8;
    while code.len() < bytes {
        let (a, b) = (n % 100, n.wrapping_mul(37) % 100);
        code.extend([0x20, a, 0x20, b, 0x6c, 0x21, b]);
        n = n.wrapping_add(1);
    }
    code.push(0x0b);
    let body = [leb(code.len()), code].concat();
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, &[1, 0x60, 0, 0]),
        section(3, &[leb(functions), vec![0; functions]].concat()),
        section(10, &[leb(functions), body.repeat(functions)].concat()),
    ]
    .concat();
    [b"\0asm\x0d\0\x01\0".to_vec(), section(1, &module)].concat()
}

/// Components within components.
fn nested(depth: usize) -> Vec<u8> {
    let mut component = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..depth {
        component = [b"\0asm\x0d\0\x01\0".to_vec(), section(4, &component)].concat();
    }
    component
}

/// What `rwkv-rag plugin check` says of a component under one bound of compiling.
fn check(component: &Path, bound: &str, value: u64) -> (bool, String) {
    let mut command = Command::new(binary());
    command.current_dir(root()).args(["plugin", "check"]).arg(component);
    command.env(format!("RWKV_RAG__PLUGINS__COMPILE__{bound}"), value.to_string());
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn every_bound_of_compiling_refuses_by_its_name_and_a_good_component_passes() {
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs_err::write(&path, bytes).unwrap();
        path
    };
    let large = put("large.wasm", &bomb(2, 7_000_000));
    let many = put("many.wasm", &bomb(40, 400_000));
    let deep = put("deep.wasm", &nested(1_000));
    let good = root().join("plugins/dist/chunk-lines.wasm");
    for (component, bound, value, part) in [
        (
            &large,
            "MEMORY_BYTES_MAX",
            256 << 20,
            "256 MiB of memory (setting plugins.compile.memory_bytes_max)",
        ),
        (&many, "CPU_MS_MAX", 1_000, "1000 ms of processor time (setting plugins.compile.cpu_ms_max)"),
        (&many, "WALL_MS_MAX", 50, "50 ms (setting plugins.compile.wall_ms_max)"),
        (&good, "OUTPUT_BYTES_MAX", 1_000, "of native code (setting plugins.compile.output_bytes_max)"),
        (&deep, "CPU_MS_MAX", 10_000, "it exports nothing"),
    ] {
        let (passed, told) = check(component, bound, value);
        assert!(!passed && told.contains(part), "{bound}: {told}");
        assert_eq!(told.trim().lines().count(), 1, "one line says why: {told}");
    }
    let (passed, told) = check(&good, "CPU_MS_MAX", 60_000);
    assert!(passed, "{told}");
}

#[tokio::test]
async fn a_host_answers_while_it_refuses_a_bomb() {
    let mut data = Data::new();
    data.start().kill();
    // What the host needs itself is compiled by now.
    let mut data = data.set("PLUGINS", "COMPILE__CPU_MS_MAX", 2_000);
    let host = Arc::new(data.start());
    host.ingest("initial", "sailing.md", fixture("sailing.md")).await;
    let installing = host.clone();
    let bomb = tokio::spawn(async move {
        answer(installing.request(Method::POST, "/api/v1/plugins").body(bomb(40, 400_000))).await
    });
    let mut answered = 0;
    while !bomb.is_finished() {
        let question = json!({"question": "How long should the anchor chain be?"});
        let found = host.post("/api/v1/kbs/initial/search", &question).await;
        assert_eq!(found["status"], 200, "{found}");
        answered += 1;
    }
    assert!(answered > 0);
    let refused = bomb.await.unwrap();
    assert_eq!(refused["status"], 400, "{refused}");
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("plugins.compile.cpu_ms_max"), "{refused}");
    let mut good = fs_err::read(root().join("plugins/dist/chunk-lines.wasm")).unwrap();
    good.extend([0, 2, 1, b'c']);
    let installed = answer(host.request(Method::POST, "/api/v1/plugins").body(good)).await;
    assert_eq!(installed["status"], 201, "{installed}");
}
