import type { ITranslate } from "../words";

/** Leaves a sentence in its own language. */
export const english: ITranslate = {
  __: (sentence, ...values) => sentence.replace(/%(\d)/g, (_, n: string) => String(values[Number(n) - 1])),
};
