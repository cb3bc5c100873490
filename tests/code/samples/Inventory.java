package org.example.inventory;

import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Predicate;
import java.util.stream.Collectors;

/**
 * Keeps count of what is in store, and warns when something runs low.
 */
public class Inventory implements AutoCloseable {

    private static final int LOW_WATER = 5;
    private final Map<String, Item> items = new HashMap<>();
    private final List<Listener> listeners = new ArrayList<>();
    private volatile boolean closed;

    @FunctionalInterface
    public interface Listener {
        void changed(Item item, int before, int after);
    }

    public enum Unit {
        PIECE("pc"), KILOGRAM("kg"), LITRE("l");

        private final String symbol;

        Unit(String symbol) {
            this.symbol = symbol;
        }

        public String symbol() {
            return symbol;
        }
    }

    public record Item(String code, String name, Unit unit, BigDecimal price, int count) {
        public Item {
            if (count < 0) {
                throw new IllegalArgumentException("count must not be negative: " + count);
            }
        }

        Item withCount(int next) {
            return new Item(code, name, unit, price, next);
        }
    }

    public void listen(Listener listener) {
        listeners.add(listener);
    }

    public synchronized void add(Item item) {
        checkOpen();
        items.merge(item.code(), item, (old, fresh) -> old.withCount(old.count() + fresh.count()));
        announce(item, 0, item.count());
    }

    public synchronized boolean take(String code, int amount) {
        checkOpen();
        Item item = items.get(code);
        if (item == null || item.count() < amount) {
            return false;
        }
        Item after = item.withCount(item.count() - amount);
        items.put(code, after);
        announce(after, item.count(), after.count());
        return true;
    }

    public List<Item> find(Predicate<? super Item> test) {
        return items.values().stream().filter(test).sorted((a, b) -> a.code().compareTo(b.code()))
            .collect(Collectors.toList());
    }

    public BigDecimal value() {
        BigDecimal total = BigDecimal.ZERO;
        for (Item item : items.values()) {
            total = total.add(item.price().multiply(BigDecimal.valueOf(item.count())));
        }
        return total;
    }

    public Optional<String> warning(String code) {
        Item item = items.get(code);
        if (item == null) return Optional.empty();
        return switch (item.unit()) {
            case PIECE -> item.count() < LOW_WATER ? Optional.of("low: " + item.name()) : Optional.empty();
            case KILOGRAM, LITRE -> Optional.empty();
        };
    }

    private void announce(Item item, int before, int after) {
        for (int i = 0; i < listeners.size(); i++) {
            try {
                listeners.get(i).changed(item, before, after);
            } catch (RuntimeException error) {
                System.err.printf("listener %d failed: %s%n", i, error.getMessage());
            }
        }
    }

    private void checkOpen() {
        if (closed) {
            throw new IllegalStateException("closed");
        }
    }

    @Override
    public void close() {
        closed = true; // what is counted stays readable
        items.clear();
    }
}
