//! Rust shapes of `wit/`: what every world shares is bound once here, each kind's exports in a module of its own.

/// Types and every host interface, whether or not a world lists it.
mod shared {
    wasmtime::component::bindgen!({
        path: "../../wit",
        inline: "
            package ragkit:rag-wasm;
            world every-import {
                import ragkit:types/types@0.1.0;
                import ragkit:host/log@0.1.0;
                import ragkit:host/config@0.1.0;
                import ragkit:host/blob@0.1.0;
                import ragkit:host/ocr@0.1.0;
                import ragkit:host/tokens@0.1.0;
                import ragkit:host/embed@0.1.0;
                import ragkit:host/rerank@0.1.0;
                import ragkit:host/generate@0.1.0;
                import ragkit:host/search@0.1.0;
                import ragkit:host/http@0.1.0;
                import ragkit:host/sql@0.1.0;
                import ragkit:host/kv@0.1.0;
                import ragkit:host/vector-index@0.1.0;
            }
        ",
        world: "ragkit:rag-wasm/every-import",
        imports: {
            // These never wait; without a future they cost half.
            "ragkit:host/log.enabled": trappable,
            "ragkit:host/log.log": trappable,
            "ragkit:host/config.settings": trappable,
            default: async | trappable,
        },
        with: { "ragkit:host/blob.blob": crate::state::OpenBlob },
    });
}

pub(crate) use shared::ragkit;

pub(crate) mod parser {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "ragkit:plugin/parser-plugin",
        exports: { default: async },
        with: {
            "ragkit:types": crate::bindings::ragkit::types,
            "ragkit:host": crate::bindings::ragkit::host,
        },
    });
}

pub(crate) mod chunker {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "ragkit:plugin/chunker-plugin",
        exports: { default: async },
        with: {
            "ragkit:types": crate::bindings::ragkit::types,
            "ragkit:host": crate::bindings::ragkit::host,
        },
    });
}

pub(crate) mod vector_store {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "ragkit:plugin/vector-store-plugin",
        exports: { default: async },
        with: {
            "ragkit:types": crate::bindings::ragkit::types,
            "ragkit:host": crate::bindings::ragkit::host,
        },
    });
}

pub(crate) mod connector {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "ragkit:plugin/connector-plugin",
        exports: { default: async },
        with: {
            "ragkit:types": crate::bindings::ragkit::types,
            "ragkit:host": crate::bindings::ragkit::host,
        },
    });
}

pub(crate) mod retriever {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "ragkit:plugin/retriever-plugin",
        exports: { default: async },
        with: {
            "ragkit:types": crate::bindings::ragkit::types,
            "ragkit:host": crate::bindings::ragkit::host,
        },
    });
}
