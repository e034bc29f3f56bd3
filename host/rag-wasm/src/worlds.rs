//! The worlds, seen alike: how each is resolved, made and asked who it is.

use futures_util::future::BoxFuture;
use wasmtime::Store;
use wasmtime::component::InstancePre;

use crate::Kind;
use crate::bindings::{chunker, connector, parser, retriever, vector_store};
use crate::instance::{Description, GuestOutcome, World};
use crate::state::State;

/// The same text for each world, whose generated types differ only in name.
macro_rules! world {
    ($kind:ident, $module:ident :: $world:ident, $pre:ident) => {
        impl World for $module::$world {
            const KIND: Kind = Kind::$kind;
            type Pre = $module::$pre<State>;

            fn resolve(pre: InstancePre<State>) -> wasmtime::Result<Self::Pre> {
                $module::$pre::new(pre)
            }

            fn instantiate<'a>(
                pre: &'a Self::Pre,
                store: &'a mut Store<State>,
            ) -> BoxFuture<'a, wasmtime::Result<Self>> {
                Box::pin(pre.instantiate_async(store))
            }

            fn describe<'a>(
                &'a self,
                store: &'a mut Store<State>,
            ) -> BoxFuture<'a, GuestOutcome<Description>> {
                Box::pin(async move {
                    let info = self.ragkit_plugin_info().call_describe(store).await?;
                    Ok(Ok((info.id, info.version, info.description)))
                })
            }
        }
    };
}

world!(Parser, parser::ParserPlugin, ParserPluginPre);
world!(Chunker, chunker::ChunkerPlugin, ChunkerPluginPre);
world!(VectorStore, vector_store::VectorStorePlugin, VectorStorePluginPre);
world!(Connector, connector::ConnectorPlugin, ConnectorPluginPre);
world!(Retriever, retriever::RetrieverPlugin, RetrieverPluginPre);
