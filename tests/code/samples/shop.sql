-- A small shop: tables, views, a few questions about them and some housekeeping.
CREATE TABLE customers (
    id INTEGER PRIMARY KEY,
    name VARCHAR(80) NOT NULL,
    email VARCHAR(120) UNIQUE,
    city TEXT DEFAULT 'unknown',
    created_at TIMESTAMP NOT NULL
);

CREATE TABLE products (
    id INTEGER PRIMARY KEY,
    title TEXT NOT NULL,
    price DECIMAL(10, 2) NOT NULL,
    stock INTEGER DEFAULT 0,
    discontinued BOOLEAN DEFAULT FALSE
);

CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL REFERENCES customers (id),
    placed_at TIMESTAMP NOT NULL,
    status TEXT NOT NULL
);

CREATE TABLE order_lines (
    order_id INTEGER NOT NULL,
    product_id INTEGER NOT NULL,
    quantity INTEGER NOT NULL,
    unit_price DECIMAL(10, 2) NOT NULL,
    PRIMARY KEY (order_id, product_id)
);

CREATE INDEX orders_by_customer ON orders (customer_id, placed_at);

INSERT INTO customers (id, name, email, city, created_at)
VALUES
    (1, 'Ada', 'ada@example.org', 'Turin', '2024-01-05'),
    (2, 'Grace', 'grace@example.org', 'New York', '2024-02-11'),
    (3, 'Zoë', NULL, 'Zürich', '2024-03-20');

INSERT INTO products (id, title, price, stock) VALUES (10, 'Lamp', 39.90, 4), (11, 'Chair', 120, 0);

/* What each customer spent, largest first. */
CREATE VIEW spending AS
SELECT
    c.id,
    c.name,
    COUNT(DISTINCT o.id) AS orders,
    SUM(l.quantity * l.unit_price) AS total
FROM customers AS c
LEFT JOIN orders AS o ON o.customer_id = c.id
LEFT JOIN order_lines AS l ON l.order_id = o.id
WHERE o.status <> 'cancelled'
GROUP BY c.id, c.name
HAVING SUM(l.quantity * l.unit_price) > 100
ORDER BY total DESC;

WITH recent AS (
    SELECT customer_id, MAX(placed_at) AS last_order
    FROM orders
    GROUP BY customer_id
)
SELECT
    customers.name,
    recent.last_order,
    CASE
        WHEN recent.last_order IS NULL THEN 'never'
        WHEN recent.last_order < '2024-01-01' THEN 'long ago'
        ELSE 'recent'
    END AS activity
FROM customers
LEFT JOIN recent ON recent.customer_id = customers.id
WHERE customers.city IN ('Turin', 'Zürich') AND customers.email IS NOT NULL
LIMIT 50;

SELECT
    p.title,
    p.price,
    RANK() OVER (ORDER BY p.price DESC) AS place
FROM products AS p
WHERE p.price BETWEEN 10 AND 500
    AND EXISTS (SELECT 1 FROM order_lines AS l WHERE l.product_id = p.id);

UPDATE products
SET stock = stock - 1, discontinued = TRUE
WHERE id = 11 AND stock > 0;

DELETE FROM orders WHERE status = 'cancelled' AND placed_at < '2023-01-01';

ALTER TABLE customers ADD COLUMN phone VARCHAR(30);

SELECT name FROM customers
UNION ALL
SELECT title FROM products;

SELECT COALESCE(city, 'unknown') AS place, COUNT(*) AS people
FROM customers
GROUP BY city
ORDER BY people DESC, place;

DROP VIEW spending;
