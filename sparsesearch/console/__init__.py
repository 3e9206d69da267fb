"""How a study is shown in terminals, logs and notebooks: reporters, views and tables."""
