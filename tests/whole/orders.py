"""A small project that starts quickly, for tests with many worker processes: orders counted by shop and as a whole."""

import twofold as tw

orders = tw.Events("orders", time="at", id="order", dedupe="30d", schema={"order": str, "shop": str, "price": float})
shop = tw.View("shop", orders, by="shop", features={"n": tw.count(), "price": tw.sum("price", over=["1h", "1d"]), "last": tw.last("order")})
everything = tw.View("everything", orders, mode="stream", features={"n": tw.count()})
project = tw.Project("orders", views=[shop, everything])
