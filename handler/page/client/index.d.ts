import type { components, operations } from "./api.js";

type Schemas = components["schemas"];
export type Box = Schemas["Box"];
export type RleMask = Schemas["RleMask"];
export type PolygonMask = Schemas["PolygonMask"];
export type PngMask = Schemas["PngMask"];
export type Float32Mask = Schemas["Float32Mask"];
export type Problem = Schemas["Problem"];
export type ModelAnswer = Schemas["ModelAnswer"];
export type Resize = ModelAnswer["contract"]["resize"];
/** Corners of one closed outline: x, y, x, y, ... */
export type Ring = number[];

export interface Masks {
  rle: RleMask;
  polygon: PolygonMask;
  png: PngMask;
  float32: Float32Mask;
  none: null;
}
export type Instance<Mask extends keyof Masks = "rle"> = Omit<Schemas["Instance"], "mask"> & { mask: Masks[Mask] };

export interface Size {
  width: number;
  height: number;
}

/** Pixels of a part of an image, row-major: 0 outside, another number inside. */
export interface Crop extends Box {
  data: Uint8Array;
}

export interface Service {
  /** Address of the function, such as https://segment.example.com. Default: the origin of the page. */
  url?: string;
  /** API key, if the service has keys. */
  key?: string;
  /** Ends the request; `segment` then throws the signal's reason. */
  signal?: AbortSignal;
}

type Query = Omit<NonNullable<operations["segment"]["parameters"]["query"]>, "mask">;

export interface Options<Mask extends keyof Masks = "rle"> extends Service, Query {
  /** How masks come. Default: rle. */
  mask?: Mask;
  /** Seconds for everything, waiting included; then `segment` throws a TimeoutError. Default: 60. */
  timeoutS?: number;
  /** How often a request that was answered 503 is sent again, after its Retry-After. Default: 2. */
  retries?: number;
  /** False sends the photograph as it is. Default: in a browser, bring it to the size that the model uses. */
  resize?: boolean;
  /** Called before each wait. */
  onWait?: (seconds: number, error: SegmentError) => void;
  /** Called before the photograph is sent, with what is sent. */
  onSend?: (sent: { photo: Blob; width?: number; height?: number; original?: Size }) => void;
}

/** The instances, in pixels of the photograph as displayed, and what the answer cost. */
export type Answer<Mask extends keyof Masks = "rle"> = Omit<Schemas["Instances"], "instances"> & {
  instances: Instance<Mask>[];
  /** The image as it was sent. */
  sent: Size & { bytes: number };
  requestId: string;
  /** Milliseconds of each stage in the function. */
  timingMs: Record<string, number>;
  /** Bytes between the function and the model. */
  modelBytes: { up: number; down: number };
  /** Bytes of the answer, compressed if it was. */
  bytes: number;
};

/** What the function says is wrong. `status` 0: no answer came. */
export class SegmentError extends Error {
  title: string;
  status: number;
  requestId: string;
  /** Seconds of Retry-After. */
  retryAfterS: number;
}

/**
 * Send a photograph. In a browser, it is first brought to the size that the model uses, never larger, and turned
 * upright. PNG masks are then as large as the boxes of the smaller image.
 * Throws SegmentError, or the reason of a signal.
 */
export function segment<Mask extends keyof Masks = "rle">(photo: Blob, options?: Options<Mask>): Promise<Answer<Mask>>;
/** The model that the function uses, asked once for each url and key. */
export function model(service?: Service): Promise<ModelAnswer>;
/** An answer in pixels of its image at another size. RLE and PNG masks stay as they are. */
export function inPixelsOf<A extends { image: Size; instances: Instance<keyof Masks>[] }>(answer: A, size: Size): A;

/** The size at which a photograph is worth sending: what the model uses, never larger. */
export function uploadSize(size: Size, resize: Resize): Size;
/** Bring a photograph to that size; `decoded`: the same photograph, if it is decoded already. Null: this is no browser, or it cannot decode the photograph. */
export function shrink(
  photo: Blob,
  resize: Resize,
  encoding?: { type?: string; quality?: number; decoded?: ImageBitmap },
): Promise<({ photo: Blob; original: Size } & Size) | null>;

/** The mask of a crop over the whole image, as pycocotools writes it. */
export function encodeRle(crop: Crop, image: Size): RleMask;
/** The pixels of a mask, 0 or 1. Throws RangeError if `counts` is no mask of `size`. */
export function decodeRle(mask: Pick<RleMask, "size" | "counts">): Crop;

/** The probabilities of a mask, row-major. */
export function probabilities(mask: Pick<Float32Mask, "data">): Float32Array;
/** The pixels over the instance's box whose probability is at least the threshold: those that mask=rle would have. */
export function maskPixels(instance: Pick<Instance<"float32">, "box" | "mask">, threshold?: number, grid?: Float32Array): Crop;
/** The outline in image pixels, clockwise; holes run the other way. */
export function outline(instance: Pick<Instance<"float32">, "box" | "mask">, threshold?: number, grid?: Float32Array): Ring[];
/** The probability at a point of the image, 0 outside the box. */
export function probabilityAt(instance: Pick<Instance<"float32">, "box" | "mask">, grid: Float32Array, x: number, y: number): number;
/** The area inside rings, without their holes, in square pixels. */
export function ringArea(rings: Ring[]): number;
/** Rings as the `d` of an SVG path, to fill even-odd. */
export function svgPath(rings: Ring[]): string;
/** Rings as a Path2D, to fill "evenodd". */
export function toPath2D(rings: Ring[]): Path2D;
