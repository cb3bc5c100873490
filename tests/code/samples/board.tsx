import React, { useCallback, useEffect, useMemo, useState } from "react";
import type { ReactNode } from "react";

interface Card {
  id: number;
  title: string;
  column: Column;
  labels?: string[];
}

type Column = "todo" | "doing" | "done";

const COLUMNS: readonly Column[] = ["todo", "doing", "done"];

interface BoardProps {
  initial: Card[];
  onMove?: (card: Card, to: Column) => void;
  children?: ReactNode;
}

function useCards(initial: Card[]) {
  const [cards, setCards] = useState<Card[]>(initial);
  const move = useCallback((id: number, column: Column) => {
    setCards((before) => before.map((c) => (c.id === id ? { ...c, column } : c)));
  }, []);
  const add = useCallback((title: string) => {
    const trimmed = title.trim();
    if (!trimmed) return;
    setCards((before) => [...before, { id: Date.now(), title: trimmed, column: "todo" }]);
  }, []);
  return { cards, move, add } as const;
}

// A label is only text.
const Label = ({ text }: { text: string }) => <span className="label">{text}</span>;

export function CardView({ card, onClick }: { card: Card; onClick: () => void }): JSX.Element {
  return (
    <li>
      <button type="button" onClick={onClick} aria-label={`Move ${card.title}`}>
        {card.title}
        {card.labels?.map((label) => <Label key={label} text={label} />)}
      </button>
    </li>
  );
}

export default function Board({ initial, onMove, children }: BoardProps) {
  const { cards, move, add } = useCards(initial);
  const [draft, setDraft] = useState("");
  const [filter, setFilter] = useState<string | null>(null);

  const shown = useMemo(
    () => cards.filter((card) => filter === null || card.labels?.includes(filter)),
    [cards, filter],
  );

  useEffect(() => {
    const left = cards.filter((card) => card.column !== "done").length;
    document.title = left > 0 ? `${left} to do` : "All done";
    return () => {
      document.title = "Board";
    };
  }, [cards]);

  const next = (column: Column): Column => {
    const at = COLUMNS.indexOf(column);
    return COLUMNS[Math.min(at + 1, COLUMNS.length - 1)];
  };

  function advance(card: Card) {
    const to = next(card.column);
    if (to === card.column) return;
    move(card.id, to);
    onMove?.(card, to);
  }

  return (
    <main className={filter ? "board filtered" : "board"}>
      <h1>Board &amp; cards</h1>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          add(draft);
          setDraft("");
        }}
      >
        <input value={draft} onChange={(event) => setDraft(event.target.value)} />
        <button type="submit" disabled={!draft.trim()}>
          Add
        </button>
        <button type="button" onClick={() => setFilter(filter ? null : "urgent")}>
          {filter ? "All" : "Urgent"}
        </button>
      </form>
      <div className="columns">
        {COLUMNS.map((column) => (
          <section key={column}>
            <h2>{column.toUpperCase()}</h2>
            <ul>
              {shown
                .filter((card) => card.column === column)
                .map((card) => (
                  <CardView key={card.id} card={card} onClick={() => advance(card)} />
                ))}
            </ul>
          </section>
        ))}
      </div>
      {children}
    </main>
  );
}
