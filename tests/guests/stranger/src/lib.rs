//! Exports an interface of its own and none of ours.

wit_bindgen::generate!({
    inline: "
        package stranger:danger@1.0.0;
        interface greeting { greet: func() -> string; }
        world stranger { export greeting; }
    ",
});

struct Stranger;
export!(Stranger);

impl exports::stranger::danger::greeting::Guest for Stranger {
    fn greet() -> String {
        "hello".to_owned()
    }
}
