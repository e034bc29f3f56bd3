//! Turns texts into training data and trains states and adapters.
