"""The released way of doing things, put together again from its description: what the fast ways are measured against.

Edges are appended one by one in every forward, every video is a graph of its own, projections are convolutions over
time, the texts are repeated over the batch before their distances are taken, and the modules are torch's own.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mag2 import TextFeatures

with warnings.catch_warnings():  # PyG uses a deprecated part of torch
    warnings.simplefilter("ignore")
    from torch_geometric.nn import SAGEConv


def appended_edges(n_clips: int, n_texts: int, device: torch.device | str | None = None) -> Tensor:
    """The edges (2, E) of the complete action graph, edge by edge."""
    edges = []
    nodes = n_clips + n_texts
    for source in range(nodes):
        for target in range(nodes):
            if source != target and (source >= n_clips or target < n_clips):
                edges.append([source, target])
    return torch.tensor(edges, dtype=torch.long, device=device).t().contiguous()


def graph_a_video(guide: Any, clips: Tensor, texts: Tensor, edges: Tensor, dropout: float) -> Tensor:
    """Clips (B, T, d) guided by texts (M, d), video after video: `guide` has two graph convolutions."""
    guided = []
    for video in clips:
        nodes = guide.conv1(torch.cat([video, texts]), edges)
        nodes = F.dropout(nodes.relu(), dropout, guide.training)
        guided.append(guide.conv2(nodes, edges)[: len(video)])
    return torch.stack(guided)


class Guidance(nn.Module):
    """Two SAGEConv layers on a graph of clips and texts."""

    def __init__(self, dim: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.conv1, self.conv2 = SAGEConv(dim, dim // 2), SAGEConv(dim // 2, dim)

    def forward(self, clips: Tensor, texts: Tensor) -> Tensor:
        """(B, T, d) and (M, d) -> (B, T, d)."""
        edges = appended_edges(clips.shape[1], len(texts), clips.device)
        return graph_a_video(self, clips, texts, edges, self.dropout)


class ReleasedMLAVL(nn.Module):
    """MLAVL the released way, under the released names, so that `MLAVL.from_released` takes its `state_dict`."""

    def __init__(self, texts: TextFeatures, feature: int, dim: int, n_heads: int, dropout: float):
        super().__init__()
        self.counts = [len(texts.visual), len(texts.audio), 2 * texts.n_grades, texts.n_grades]
        self.register_buffer("texts", texts.rows.detach().float(), persistent=False)
        self.proj_visual, self.proj_audio = _projection(feature, dim), _projection(feature, dim)
        self.proj_text = _projection(texts.width, dim)
        layer = nn.TransformerEncoderLayer(dim, n_heads, 3 * dim, dropout, batch_first=True)
        self.SSCEncoder = nn.TransformerEncoder(layer, 1, nn.LayerNorm(dim), enable_nested_tensor=False)
        self.gcn_V, self.gcn_A = Guidance(dim, dropout), Guidance(dim, dropout)
        self.T_decoder = _decoder(dim, n_heads, 2, dropout)
        self.clip_fusion = _projection(2 * dim, dim)
        self.GradeDecoder = _decoder(dim, n_heads, 3, dropout)
        self.regressor_AV, self.regressor_V = nn.Linear(dim, 2 * texts.n_grades), nn.Linear(dim, texts.n_grades)
        self.w1 = nn.Parameter(torch.tensor([0.5]))

    def forward(self, visual: Tensor, audio: Tensor) -> dict[str, Tensor]:
        """Score a batch (B, T, feature) each."""
        rows = _over_time(self.proj_text, self.texts[None])[0]
        visual_texts, audio_texts, grades_av, grades_v = rows.split(self.counts)
        visual, audio = _over_time(self.proj_visual, visual), _over_time(self.proj_audio, audio)
        visual, audio = self.SSCEncoder(visual) + visual, self.SSCEncoder(audio) + audio
        visual, audio = self.gcn_V(visual, visual_texts), self.gcn_A(audio, audio_texts)
        mixed = _over_time(self.clip_fusion, torch.cat([visual, audio], dim=-1))
        fused = self.T_decoder(visual, audio) + mixed
        batch = len(visual)
        decoded_av = self.GradeDecoder(grades_av.repeat(batch, 1, 1), fused)
        decoded_v = self.GradeDecoder(grades_v.repeat(batch, 1, 1), visual)
        score_av, score_v = _graded(decoded_av, self.regressor_AV), _graded(decoded_v, self.regressor_V)
        return {
            "score": self.w1 * score_av + (1 - self.w1) * score_v,
            "grades_audio_visual": decoded_av,
            "grades_visual": decoded_v,
            "texts_visual": visual_texts,
            "texts_audio": audio_texts,
            "texts_audio_visual_grades": grades_av,
            "texts_grades": grades_v,
        }

    @staticmethod
    def loss(output: Mapping[str, Tensor], label: Tensor) -> Tensor:
        """Its objective, each text set repeated over the batch."""
        batch = len(label)
        total = 10 * F.mse_loss(output["score"], label)
        for branch, texts in (("audio_visual", "texts_audio_visual_grades"), ("visual", "texts_grades")):
            decoded = output[f"grades_{branch}"]
            total = total + all_pairs_triplet(decoded)
            cosines = F.cosine_similarity(decoded[:, :, None], output[texts][None, None], dim=-1)
            ranks = torch.arange(decoded.shape[1], device=decoded.device).repeat(batch)
            total = total + 0.01 * F.cross_entropy(cosines.flatten(0, 1), ranks, label_smoothing=0.1)
        for texts in ("texts_visual", "texts_audio", "texts_audio_visual_grades", "texts_grades"):
            total = total + all_pairs_triplet(output[texts].repeat(batch, 1, 1))
        return total


def all_pairs_triplet(embeddings: Tensor, margin: float = 1.0) -> Tensor:
    """Batch-hard triplets of (B, M, d), an anchor's class its place among the M: every distance, (BM)^2 of them."""
    batch, n, _ = embeddings.shape
    unit = F.normalize(embeddings.flatten(0, 1), dim=-1)
    classes = torch.arange(n, device=unit.device).repeat(batch)
    distance = 1 - unit @ unit.T
    same = classes[:, None] == classes[None, :]
    others = same & ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    positive = (distance * others).amax(dim=1)
    negative = (distance + distance.amax(dim=1, keepdim=True) * same).amin(dim=1)
    return F.relu(positive - negative + margin).mean()


def _projection(in_dim: int, dim: int) -> nn.Sequential:
    hidden = in_dim // 2
    return nn.Sequential(
        nn.Conv1d(in_dim, hidden, 1),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Conv1d(hidden, dim, 1),
        nn.BatchNorm1d(dim),
    )


def _decoder(dim: int, n_heads: int, n_layers: int, dropout: float) -> nn.TransformerDecoder:
    layer = nn.TransformerDecoderLayer(dim, n_heads, 3 * dim, dropout, batch_first=True)
    return nn.TransformerDecoder(layer, n_layers, nn.LayerNorm(dim))


def _over_time(projection: nn.Module, tokens: Tensor) -> Tensor:
    return projection(tokens.transpose(1, 2)).transpose(1, 2)


def _graded(decoded: Tensor, regressor: nn.Module) -> Tensor:
    present = torch.sigmoid(torch.diagonal(regressor(decoded), dim1=-2, dim2=-1))
    present = present / present.sum(dim=1, keepdim=True)
    return present @ torch.linspace(0, 1, decoded.shape[1]).to(present)
